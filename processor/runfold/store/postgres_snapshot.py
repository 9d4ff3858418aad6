"""A frozen view of the PostgreSQL store: a connection of its own that stands in a repeatable read until it is closed.

Its rows are iterated without ``await``, on any thread, while the driver wants an event loop: the connection lives on a
thread with a loop of its own, which fetches the next rows while these are looked at. While the view is open, the server
keeps every row version that it may still ask for: close it as soon as the digest is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import suppress
from threading import Thread
from typing import Any, Final, TypeVar

from asyncpg import InterfaceError, PostgresError, Record

from runfold.fold.usage import SUMS
from runfold.store.port import StoreUnreachable
from runfold.store.postgres_connection import STAY, VIEWER, Session, connect
from runfold.store.postgres_errors import translated
from runfold.store.postgres_reads import DIMENSIONS, USAGE
from runfold.store.postgres_rows import told_text
from runfold.store.postgres_url import Database
from runfold.store.snapshot import Row

T = TypeVar("T")

_CHUNK: Final = 2_000
_SUMS: Final = ", ".join(SUMS)
_RUN: Final = f"""run_id, thread_id, status, created_at, flags, {DIMENSIONS}, minute, final_timestamp, body
    from run join dimension on dimension.n = run.dimension"""
_LETTERS: Final = """select log_offset, timestamp, reason, detail, run_id, key, headers, value from letter
    where partition = $1 order by log_offset"""
_JOURNAL: Final = f"""select log_offset, part, run_id, timestamp, minute, {DIMENSIONS}, status, {_SUMS}
    from journal join dimension on dimension.n = journal.dimension where partition = $1 order by log_offset, part"""
_USAGE: Final = f"select {USAGE} order by minute, {DIMENSIONS}, status"
_BEGIN: Final = f'begin isolation level repeatable read read only; set local search_path = "{{schema}}"; {STAY}'


class PostgresSnapshot:
    """See :class:`runfold.store.port.StoreSnapshot`. Iterators may be read on any thread, one at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="runfold-snapshot", daemon=True)
        self._thread.start()
        self._turn = asyncio.Lock()
        self._session: Session | None = None
        self._cursors = 0

    @classmethod
    async def take(cls, database: Database) -> PostgresSnapshot:
        """A view of what is committed now."""
        snapshot = cls(database)
        try:
            await asyncio.wrap_future(snapshot._submit(snapshot._begin()))
        except BaseException:
            await snapshot.close()
            raise
        return snapshot

    async def _begin(self) -> None:
        self._session = await connect(self._database, VIEWER)
        await self._execute(_BEGIN.format(schema=self._database.schema))
        # "begin" alone takes no view: the first read does.
        await self._fetch("select count(*) from meta")

    async def positions(self) -> dict[int, int]:
        rows = self._fetch("select partition, next from position order by partition")
        return {row["partition"]: row["next"] for row in await asyncio.wrap_future(self._submit(rows))}

    def runs(self, partition: int) -> Iterator[Row]:
        return self._rows(f"select {_RUN} where partition = $1 order by run_id", partition)

    def scan_runs(self) -> Iterator[tuple[int, Row]]:
        return ((row[0], row[1:]) for row in self._rows(f"select partition, {_RUN}"))  # type: ignore[misc]

    def letters(self, partition: int) -> Iterator[Row]:
        return self._rows(_LETTERS, partition)

    def journal(self, partition: int) -> Iterator[Row]:
        return self._rows(_JOURNAL, partition)

    def usage(self) -> Iterator[Row]:
        width = len(SUMS)
        return ((*row[:-width], *map(int, row[-width:])) for row in self._rows(_USAGE))  # type: ignore[arg-type]

    async def close(self) -> None:
        if self._loop.is_closed():
            return
        with suppress(PostgresError, InterfaceError, OSError, TimeoutError):
            await asyncio.wrap_future(self._submit(self._end()))
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()

    async def _end(self) -> None:
        if self._session is not None:
            await self._session.connection.close(timeout=2)

    def _rows(self, statement: str, *values: object) -> Iterator[Row]:
        self._cursors += 1
        name = f"rows_{self._cursors}"
        self._submit(self._execute(f"declare {name} no scroll cursor for {_with_values(statement, values)}")).result()
        ahead = self._submit(self._fetch(f"fetch {_CHUNK} from {name}"))
        while chunk := ahead.result():
            ahead = self._submit(self._fetch(f"fetch {_CHUNK} from {name}"))
            yield from map(_told, chunk)
        self._submit(self._execute(f"close {name}")).result()

    async def _execute(self, statement: str) -> None:
        async with self._turn:
            with translated(self._database):
                await self._open().connection.execute(statement)

    async def _fetch(self, statement: str) -> list[Record]:
        async with self._turn:
            with translated(self._database):
                return await self._open().connection.fetch(statement)

    def _open(self) -> Session:
        if self._session is None:
            raise StoreUnreachable("the view of the store is not open")
        return self._session

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)


def _with_values(statement: str, values: tuple[object, ...]) -> str:
    """``declare`` takes no values: whole numbers, all there are, are written out."""
    for number, value in enumerate(values, 1):
        assert isinstance(value, int)
        statement = statement.replace(f"${number}", str(value))
    return statement


def _told(row: Record) -> Row:
    return tuple([told_text(value) if type(value) is str else value for value in row])
