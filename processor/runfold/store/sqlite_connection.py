"""Connections to the SQLite store, and the thread that each of them belongs to.

A lane is one connection and one thread: what was begun there is finished there, so that a caller who is cancelled leaves
neither a half transaction nor an open cursor behind (which would keep the write-ahead log from being checkpointed).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar
from urllib.parse import quote

from runfold.store.port import StoreUnreachable
from runfold.store.sqlite_errors import translated

P = ParamSpec("P")
T = TypeVar("T")

BUSY_SECONDS: Final = 5.0
PAGE: Final = 8192
WRITER_CACHE_KB: Final = 64_000
READER_CACHE_KB: Final = 8_000

NOW: Final = "cast((julianday('now') - 2440587.5) * 86400000 as integer)"
"""The store's clock, Unix milliseconds: SQLite's own, so that all who share a file share it."""

_WRITER: Final = (
    f"pragma page_size = {PAGE}",
    "pragma journal_mode = wal",
    # The log still has what a power cut takes; the position that goes with it is taken too.
    "pragma synchronous = normal",
    f"pragma cache_size = -{WRITER_CACHE_KB}",
    # 64 MB: a page that several batches touch is copied into the file once.
    "pragma wal_autocheckpoint = 8000",
)
_READER: Final = ("pragma query_only = on", f"pragma cache_size = -{READER_CACHE_KB}")


def connect(path: Path, *, write: bool, factory: type[sqlite3.Connection] = sqlite3.Connection) -> sqlite3.Connection:
    """A connection in autocommit mode, with its pragmas set. Raises what SQLite raises."""
    db = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode={'rwc' if write else 'ro'}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
        factory=factory,
    )
    try:
        for pragma in _WRITER if write else _READER:
            db.execute(pragma)
    except sqlite3.Error:
        db.close()
        raise
    return db


@contextmanager
def transaction(db: sqlite3.Connection, *, begin: str = "begin immediate") -> Iterator[None]:
    """All or nothing. After any failure the connection stands outside a transaction, ready for the next one."""
    try:
        db.execute(begin)
        yield
        db.execute("commit")
    except BaseException:
        roll_back(db)
        raise


def roll_back(db: sqlite3.Connection) -> None:
    """End a transaction that failed. SQLite has ended some of them itself, such as on a full disk."""
    if db.in_transaction:
        # The error that matters is the one on its way; what cannot be rolled back here is when the file is next opened.
        with suppress(sqlite3.Error):
            db.execute("rollback")


class Lane:
    """One connection, and the one thread that uses it."""

    def __init__(self, path: Path, *, write: bool, factory: type[sqlite3.Connection] = sqlite3.Connection) -> None:
        self._path, self._write, self._factory = path, write, factory
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="runfold-store")
        self._db: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Open the connection. Raises StoreUnreachable or StoreRefused."""
        await self._on_thread(self._open)

    def _open(self) -> None:
        if not self._write and not self._path.exists():
            raise StoreUnreachable(f"there is no store {self._path} (RUNFOLD_STORE) yet: `runfold serve` makes it")
        with translated(self._path):
            self._db = connect(self._path, write=self._write, factory=self._factory)

    async def run(self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **options: P.kwargs) -> T:
        """``work(connection, ...)`` on the lane's thread, with SQLite's errors translated.

        Cancelled while it waits for its turn, nothing happens; cancelled later, it runs to its end unobserved.
        """
        return await self._on_thread(lambda: self._guarded(lambda db: work(db, *args, **options)))

    async def read(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **options: P.kwargs
    ) -> T:
        """As :meth:`run`, but everything that ``work`` reads is of one committed state."""

        def consistently(db: sqlite3.Connection) -> T:
            with transaction(db, begin="begin"):
                return work(db, *args, **options)

        return await self._on_thread(lambda: self._guarded(consistently))

    def _guarded(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._db is None:
            raise RuntimeError("the store is not open")
        with translated(self._path):
            return work(self._db)

    async def close(self) -> None:
        """Close the connection once what it was given before is done."""
        await self._on_thread(self._close)
        self._thread.shutdown(wait=False)

    def _close(self) -> None:
        if self._db is not None:
            with translated(self._path):
                self._db.close()
            self._db = None

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


class LoopLane(Lane):
    """A lane whose thread is the event loop's own: for questions that are answered sooner than a thread is asked.

    What it is asked must be bounded by a key or a page: while it reads, nothing else of this process goes on.
    """

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return work()
