"""The connections that read for people: a few lanes, each lent to one reader at a time, opened when they are needed.

So a report over many buckets keeps nobody else waiting.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Concatenate, Final, ParamSpec, TypeVar

from runfold.store.sqlite_lane import Lane

P = ParamSpec("P")
T = TypeVar("T")

MOST_READERS: Final = 4


class Readers:
    """Up to MOST_READERS read-only lanes, made by ``make``; opened at their first question."""

    def __init__(self, make: Callable[[], Lane]) -> None:
        self._lanes = [make() for _ in range(MOST_READERS)]
        self._opened: set[Lane] = set()
        # The one given back last is lent first: so no more are opened than are needed at once.
        self._free: asyncio.LifoQueue[Lane] = asyncio.LifoQueue()
        for lane in reversed(self._lanes):
            self._free.put_nowait(lane)

    async def read(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **options: P.kwargs
    ) -> T:
        """As :meth:`Lane.read`. A reader who goes leaves its query to its end; the next one waits for that."""
        lane = await self._free.get()
        try:
            if lane not in self._opened:
                await lane.open()
                self._opened.add(lane)
            return await lane.read(work, *args, **options)
        finally:
            self._free.put_nowait(lane)

    async def close(self) -> None:
        for lane in self._lanes:
            await lane.close()
