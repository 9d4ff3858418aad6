"""The connections that read for people: a few lanes, each lent to one reader at a time, made when they are needed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from runfold.store.postgres_connection import READER, Lane, Session
from runfold.store.postgres_url import Database

T = TypeVar("T")

MOST_READERS: Final = 4
"""A reader that finds them all lent waits for one: so many queries at a time keep a server's cores busy."""


class Readers:
    """Up to MOST_READERS read-only lanes."""

    def __init__(self, database: Database, *, most: int = MOST_READERS) -> None:
        self._lanes = [Lane(database, READER) for _ in range(most)]
        # The one given back last is lent first: so no more connections are made than are needed at once.
        self._free: asyncio.LifoQueue[Lane] = asyncio.LifoQueue()
        for lane in reversed(self._lanes):
            self._free.put_nowait(lane)

    async def read(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """``work(session)`` as :meth:`Lane.run`; a reader who goes leaves its query to the end of its timeout."""
        lane = await self._free.get()
        try:
            return await lane.run(work)
        finally:
            self._free.put_nowait(lane)

    async def close(self) -> None:
        for lane in self._lanes:
            await lane.close()
