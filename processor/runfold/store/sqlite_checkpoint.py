"""Copying the write-ahead log of a store that is filled from nothing, by large batches, into its file.

Left to itself SQLite copies it at the end of a commit that finds it long, and whoever waits for that commit, or for his turn to
write, waits for the disk. Here it is copied after each batch, on the lane's own thread, while the next one is folded or others
write. What may change here is when it is copied.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import suppress
from typing import Final

from runfold.store.port import StoreError
from runfold.store.sqlite_lane import Lane

LONGEST: Final = 32_000
"""Pages, 256 MB. While others write, a copy is never complete, and the log begins anew only when it is."""


class Checkpoints:
    """Those of one writing lane. ``length`` is how many pages the log had when it was last copied in part, 0 if in whole."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._under_way: asyncio.Task[None] | None = None
        self.length = 0

    async def take_over(self) -> None:
        """From now on SQLite copies nothing by itself."""
        await self._lane.run(lambda db: db.execute("pragma wal_autocheckpoint = 0").close())

    def begin(self) -> None:
        """Begin to copy, after a batch; what the lane is asked next waits for it."""
        self._under_way = asyncio.create_task(self._lane.run(self.copy))

    async def over(self) -> None:
        """Return when nothing is being copied. Raises StoreUnreachable where that failed."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            await under_way

    async def left_off(self) -> None:
        """Return when nothing is being copied, however that ended: what is committed stands in the log as well."""
        with suppress(StoreError):
            await self.over()

    def copy(self, db: sqlite3.Connection) -> None:
        """Copy what no reader still needs as it was. Belongs to the lane's thread."""
        _, length, copied = db.execute("pragma wal_checkpoint(passive)").fetchone()
        self.length = length if copied < length else 0
