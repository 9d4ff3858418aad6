"""A lane: one connection to the SQLite store, and the one thread that uses it.

What was begun there is finished there, so that a caller who is cancelled leaves neither a half transaction nor an open
cursor behind (which would keep the write-ahead log from being checkpointed). A lane whose file is superseded opens the one
that follows, and does there what it was asked.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

from runfold.store.port import StoreUnreachable
from runfold.store.sqlite_connection import READ, WRITE
from runfold.store.sqlite_errors import translated
from runfold.store.sqlite_links import Place, Superseded, live_transaction, open_live
from runfold.store.sqlite_schema import check_readable

P = ParamSpec("P")
T = TypeVar("T")

Reopened = Callable[[sqlite3.Connection, Path], None]
"""Told of a connection to the file that follows, on the lane's thread, before it is used. May raise StoreError."""


class Lane:
    """Opened at the live file that ``place`` leads to. ``mode`` is one of sqlite_connection's; work is done in ``turn``."""

    def __init__(
        self,
        place: Place,
        *,
        mode: str,
        factory: type[sqlite3.Connection] = sqlite3.Connection,
        reopened: Reopened = check_readable,
        turn: AbstractContextManager[object] | None = None,
    ) -> None:
        self._turn = turn or nullcontext()
        self._root, self._place = place, place
        self._mode, self._factory, self._reopened = mode, factory, reopened
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="runfold-store")
        self._db: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Open the connection, where it is not open yet. Raises StoreUnreachable or StoreRefused."""
        await self._on_thread(self._open)

    def _open(self) -> None:
        if self._db is not None:
            return  # opened for a reader who was cancelled meanwhile
        if self._mode == READ and not self._root.path.exists():
            raise StoreUnreachable(f"there is no store {self._root.path} (RUNFOLD_STORE) yet: `runfold serve` makes it")
        self._db, self._place = open_live(self._root, mode=self._mode, factory=self._factory)

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
            with live_transaction(db, begin="begin"):
                return work(db, *args, **options)

        return await self._on_thread(lambda: self._guarded(consistently))

    def _guarded(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._db is None:
            raise RuntimeError("the store is not open")
        while True:
            try:
                with self._turn, translated(self._place.path):
                    return work(self._db)
            except Superseded as link:
                self._db = self._follow(self._db, link.after(self._place.path))

    def _follow(self, left: sqlite3.Connection, following: Place) -> sqlite3.Connection:
        """The connection to the file that follows, in place of ``left``, which stays where that one cannot be had."""
        if not following.path.exists():
            following = self._root  # superseded itself, long ago, and dropped: the first file knows where to go on
        db, place = open_live(following, mode=READ if self._mode == READ else WRITE, factory=self._factory)
        try:
            with translated(place.path):
                self._reopened(db, place.path)
        except BaseException:
            db.close()
            raise
        left.close()
        self._place = place
        return db

    async def close(self) -> None:
        """Close the connection once what it was given before is done."""
        await self._on_thread(self._close)
        self._thread.shutdown(wait=False)

    def _close(self) -> None:
        if self._db is not None:
            with translated(self._place.path):
                self._db.close()
            self._db = None

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


MAPPED: Final = 2**31 - 2**16
"""Bytes of the file that a :class:`LoopLane` reads where they lie; SQLite maps no more."""


class LoopLane(Lane):
    """A lane whose thread is the event loop's own: for questions that are answered sooner than a thread is asked.

    What it is asked must be bounded by a key or a page: while it reads, nothing else of this process goes on. Its file is
    mapped into memory, for copying a page costs more than finding a row in it; what is mapped is the system's to take back.
    """

    def _open(self) -> None:
        super()._open()
        self._map(self._db)

    def _follow(self, left: sqlite3.Connection, following: Place) -> sqlite3.Connection:
        db = super()._follow(left, following)
        self._map(db)
        return db

    @staticmethod
    def _map(db: sqlite3.Connection | None) -> None:
        if db is not None:
            db.execute(f"pragma mmap_size = {MAPPED}")

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return work()
