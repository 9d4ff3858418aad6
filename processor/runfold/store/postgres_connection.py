"""Connections to PostgreSQL: what each is told when it is made, transactions, and lanes that make a lost one anew.

A transaction carries all its settings with it, and sets them for itself alone: behind a pooler that hands each transaction
to another backend it runs as it does without one. What may change here is how long things may take.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from typing import Final, TypeVar

import asyncpg
from asyncpg import Connection, PostgresError, Record

from runfold.store.port import StoreRefused, StoreUnreachable
from runfold.store.postgres_errors import translated
from runfold.store.postgres_url import Database

T = TypeVar("T")

CONNECT_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 40.0
"""The longest that work on a lane may take, so that a network that swallows packets is noticed."""
LOCK_SECONDS: Final = 5.0
IDLE_SECONDS: Final = 10.0
TRANSACTION_SECONDS: Final = 30.0
QUERY_SECONDS: Final = 30.0
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0
OLDEST_SERVER: Final = 14
_WHOLE_TRANSACTION: Final = 17  # the first server with transaction_timeout

NOW: Final = "(extract(epoch from clock_timestamp()) * 1000)::bigint"
"""The store's clock, Unix milliseconds: the server's own, so that all who share the store share it."""


class Session:
    """One connection, and the transactions that can be had on it. ``newest`` is the server's major version."""

    def __init__(self, database: Database, connection: Connection[Record]) -> None:
        self.database, self.connection = database, connection
        self.major = connection.get_server_version().major

    def applying(self) -> AbstractAsyncContextManager[None]:
        """The transaction of a batch, as durable as the URL says."""
        commit = f"set local synchronous_commit = {self.database.synchronous_commit}; "
        return self._transaction(
            f"begin isolation level read committed read write; {commit}{self._limits(LOCK_SECONDS)}"
        )

    def writing(self, *, lock: float = LOCK_SECONDS) -> AbstractAsyncContextManager[None]:
        """A transaction that is on the disk when it ends. ``lock``: how many seconds a locked row is waited for."""
        return self._transaction(f"begin isolation level read committed read write; {self._limits(lock)}")

    def reading(self) -> AbstractAsyncContextManager[None]:
        """Everything read in it is of one committed state."""
        return self._transaction(f"begin isolation level repeatable read read only; {self._limits(LOCK_SECONDS)}")

    def glancing(self) -> AbstractAsyncContextManager[None]:
        """For one statement that reads: it needs no transaction, except where a pooler would part it from its settings."""
        return self.reading() if self.database.pooled else nullcontext()

    def _limits(self, lock: float) -> str:
        whole = (
            f"set local transaction_timeout = '{TRANSACTION_SECONDS:g}s'; " if self.major >= _WHOLE_TRANSACTION else ""
        )
        return (
            f'set local search_path = "{self.database.schema}"; set local plan_cache_mode = force_generic_plan; '
            f"set local lock_timeout = '{lock * 1000:.0f}ms'; {whole}"
            f"set local idle_in_transaction_session_timeout = '{IDLE_SECONDS:g}s'"
        )

    @asynccontextmanager
    async def _transaction(self, begin: str) -> AsyncIterator[None]:
        """All or nothing. Afterwards the connection stands outside a transaction, or is closed."""
        try:
            await self.connection.execute(begin)
            yield
            if await self.connection.execute("commit") != "COMMIT":
                raise StoreUnreachable("the transaction had failed before its commit: nothing was written")  # noqa: TRY301 - rolled back below
        except BaseException:
            await self._roll_back()
            raise

    async def _roll_back(self) -> None:
        """The error that matters is on its way: what cannot be rolled back in time is ended with its connection."""
        if self.connection.is_closed():
            return
        try:
            async with asyncio.timeout(1):
                await self.connection.execute("rollback")
        except (PostgresError, asyncpg.InterfaceError, OSError, asyncio.CancelledError):
            self.connection.terminate()


async def connect(database: Database, *, settings: dict[str, str] | None = None) -> Session:
    """A new connection. Raises StoreUnreachable, or StoreRefused where waiting would not help."""
    session_settings = {
        "search_path": f'"{database.schema}"',
        "plan_cache_mode": "force_generic_plan",
        **(settings or {}),
    }
    with translated(database):
        async with asyncio.timeout(CONNECT_SECONDS):
            connection = await asyncpg.connect(
                database.dsn,
                # A pooler takes none of these from a client: there, each transaction sets what it needs.
                server_settings={"application_name": "runfold"} | ({} if database.pooled else session_settings),
                statement_cache_size=0 if database.pooled else 100,
            )
    session = Session(database, connection)
    if session.major < OLDEST_SERVER or connection.get_settings().server_encoding != "UTF8":
        connection.terminate()
        raise StoreRefused(
            f"the store {database.place} (RUNFOLD_STORE): PostgreSQL {OLDEST_SERVER} or newer is needed, in UTF8; this is "
            f"version {session.major}, in {connection.get_settings().server_encoding}"
        )
    return session


READER_SETTINGS: Final = {
    "default_transaction_read_only": "on",
    "statement_timeout": f"{QUERY_SECONDS:g}s",
}


class Lane:
    """One connection that is used by one task at a time, and made anew when it is lost: the oftener in vain, the later."""

    def __init__(self, database: Database, *, settings: dict[str, str] | None = None) -> None:
        self._database, self._settings = database, settings
        self._session: Session | None = None
        self._turn = asyncio.Lock()
        self._under_way: set[asyncio.Task[object]] = set()
        self._failures, self._not_before = 0, 0.0
        self._closed = False

    async def open(self) -> None:
        """Connect, so that what is wrong with the URL shows at once."""
        async with self._turn:
            await self._connected()

    async def run(self, work: Callable[[Session], Awaitable[T]], *, within: float | None = ANSWER_SECONDS) -> T:
        """``work(session)`` in turn, with the driver's errors translated.

        Cancelled, the caller goes and the work runs to its end unobserved: a connection is never left half way.
        """
        task = asyncio.ensure_future(self._in_turn(work, within))
        self._under_way.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[object]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, or asyncio complains about a caller who has gone

    async def _in_turn(self, work: Callable[[Session], Awaitable[T]], within: float | None) -> T:
        async with self._turn:
            session = await self._connected()
            try:
                with translated(self._database):
                    async with asyncio.timeout(within):
                        return await work(session)
            except (StoreUnreachable, asyncio.CancelledError):
                # Fate unknown, or half way: nothing of the old connection is trusted.
                session.connection.terminate()
                raise

    async def _connected(self) -> Session:
        if self._closed:
            raise RuntimeError("the store is closed")
        if self._session is not None and not self._session.connection.is_closed():
            return self._session
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._not_before - loop.time())
        try:
            self._session = await connect(self._database, settings=self._settings)
        except StoreUnreachable:
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**self._failures) * random.uniform(0.5, 1)  # noqa: S311 - jitter
            self._failures, self._not_before = self._failures + 1, loop.time() + pause
            raise
        self._failures = 0
        return self._session

    async def close(self) -> None:
        """Close the connection once what it was given before is done; cancelled, at once."""
        try:
            async with self._turn:
                self._closed = True
                if self._session is not None:
                    with suppress(PostgresError, asyncpg.InterfaceError, OSError):
                        await self._session.connection.close(timeout=1)
        except asyncio.CancelledError:
            self._closed = True
            for task in self._under_way:
                task.cancel()
            if self._session is not None:
                self._session.connection.terminate()
            raise
