"""Connections to PostgreSQL: what each is told when it is made, transactions, and lanes that make a lost one anew.

A transaction carries all its settings with it, and sets them for itself alone: behind a pooler that hands each transaction
to another backend it runs as it does without one. What may change here is how long things may take.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
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


Settings = Mapping[str, str]

_LOOK_UP: Final[Settings] = {
    # A plan that was made while the tables were empty reads them from end to end for ever. All that the store asks in its
    # daily work it finds by a key, or by walking an index: no other plan is wanted, and none has to be thought of twice.
    "plan_cache_mode": "force_generic_plan",
    **dict.fromkeys(("enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin", "jit"), "off"),
    "idle_in_transaction_session_timeout": f"{IDLE_SECONDS:g}s",
}
WRITER: Final[Settings] = {**_LOOK_UP, "lock_timeout": f"{LOCK_SECONDS:g}s"}
READER: Final[Settings] = {
    **_LOOK_UP,
    "default_transaction_read_only": "on",
    "statement_timeout": f"{QUERY_SECONDS:g}s",
}
VIEWER: Final[Settings] = {"default_transaction_read_only": "on"}
"""For a snapshot, which reads whole tables and takes its time."""

BUILDER: Final[Settings] = {"lock_timeout": f"{LOCK_SECONDS:g}s"}
"""For making indexes over whole tables, which takes as long."""

STAY: Final = "lock table meta in access share mode"
"""First in a transaction that reads more than once: the store is not exchanged until it ends, nor was since its view began.

The view of a repeatable read begins with its first query, and this is none: whoever has waited here for a switch sees what
was switched to. Were the view older, it would see the new store's tables as they were before they were caught up.
"""


class Session:
    """One connection, and the transactions that can be had on it.

    Its settings are the session's; behind a pooler that hands each transaction to another backend, every transaction's.
    """

    def __init__(self, database: Database, connection: Connection[Record], settings: Settings) -> None:
        self.database, self.connection = database, connection
        self._settings = {"search_path": database.schema, **settings}
        bounded = settings is not VIEWER and settings is not BUILDER
        if connection.get_server_version().major >= _WHOLE_TRANSACTION and bounded:
            self._settings["transaction_timeout"] = f"{TRANSACTION_SECONDS:g}s"

    async def settle(self) -> None:
        """Tell the session its settings, where it is ours to keep."""
        if not self.database.pooled:
            await self.connection.execute(_assigned("set", self._settings))

    def applying(self) -> AbstractAsyncContextManager[None]:
        """The transaction of a batch, as durable as the URL says."""
        return self._transaction("read committed read write", synchronous_commit=self.database.synchronous_commit)

    def writing(self, *, lock: float = LOCK_SECONDS) -> AbstractAsyncContextManager[None]:
        """A transaction that is on the disk when it ends. ``lock``: how many seconds a locked row is waited for."""
        return self._transaction("read committed read write", lock_timeout=f"{lock * 1000:.0f}ms")

    def reading(self) -> AbstractAsyncContextManager[None]:
        """Everything read in it is of one committed state, and of one store: see :data:`STAY`."""
        return self._transaction("repeatable read read only", STAY)

    def glancing(self) -> AbstractAsyncContextManager[None]:
        """For one statement that reads: it needs no transaction, except where a pooler would part it from its settings."""
        return self._transaction("read committed read only") if self.database.pooled else nullcontext()

    def _transaction(self, kind: str, *first: str, **settings: str) -> AbstractAsyncContextManager[None]:
        local = {**self._settings, **settings} if self.database.pooled else settings
        return self._all_or_nothing("; ".join([f"begin isolation level {kind}", _assigned("set local", local), *first]))

    @asynccontextmanager
    async def _all_or_nothing(self, begin: str) -> AsyncIterator[None]:
        """Afterwards the connection stands outside a transaction, or is closed."""
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


def _assigned(how: str, settings: Settings) -> str:
    return "; ".join(f"{how} {name} = '{value}'" for name, value in settings.items())


async def connect(database: Database, settings: Settings) -> Session:
    """A new connection. Raises StoreUnreachable, or StoreRefused where waiting would not help."""
    with translated(database):
        async with asyncio.timeout(CONNECT_SECONDS):
            connection = await asyncpg.connect(
                database.dsn,
                server_settings={"application_name": "runfold"},
                statement_cache_size=0 if database.pooled else 100,
            )
            session = Session(database, connection, settings)
            await session.settle()
    version, encoding = connection.get_server_version().major, connection.get_settings().server_encoding
    if version < OLDEST_SERVER or encoding != "UTF8":
        connection.terminate()
        raise StoreRefused(
            f"the store {database.place} (RUNFOLD_STORE): PostgreSQL {OLDEST_SERVER} or newer is needed, in UTF8; this is "
            f"version {version}, in {encoding}"
        )
    return session


class Lane:
    """One connection that is used by one task at a time, and made anew when it is lost: the oftener in vain, the later."""

    def __init__(self, database: Database, settings: Settings, *, patience: float | None = ANSWER_SECONDS) -> None:
        self._database, self._settings, self._patience = database, settings, patience
        self._session: Session | None = None
        self._turn = asyncio.Lock()
        self._under_way: set[asyncio.Task[object]] = set()
        self._failures, self._not_before = 0, 0.0
        self._closed = False

    async def open(self) -> None:
        """Connect, so that what is wrong with the URL shows at once."""
        async with self._turn:
            await self._connected()

    async def run(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """``work(session)`` in turn, with the driver's errors translated.

        Cancelled, the caller goes and the work runs to its end unobserved: a connection is never left half way.
        """
        task = asyncio.ensure_future(self._in_turn(work))
        self._under_way.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[object]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, or asyncio complains about a caller who has gone

    async def _in_turn(self, work: Callable[[Session], Awaitable[T]]) -> T:
        async with self._turn:
            session = await self._connected()
            try:
                with translated(self._database):
                    async with asyncio.timeout(self._patience):
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
            self._session = await connect(self._database, self._settings)
        except StoreUnreachable:
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**self._failures) * random.uniform(0.5, 1)  # noqa: S311 - jitter
            self._failures, self._not_before = self._failures + 1, loop.time() + pause
            raise
        self._failures = 0
        return self._session

    async def close(self) -> None:
        """Close the connection once what it was given before is done; cancelled, at once."""
        try:
            if self._under_way:
                await asyncio.wait(self._under_way)
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
