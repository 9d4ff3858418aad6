"""Up to where the store has folded, looked at for all who wait for it together: one query, however many they are.

Nobody waiting, nobody looks. Positions only ever rise, so whatever a look shows stays true.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Final

from litestar.params import QueryParameter

from runfold.api import vector
from runfold.api.errors import TimedOut
from runfold.api.vector import Vector
from runfold.store.port import PartitionStatus, Store

PAUSE: Final = 0.05
"""Seconds between two looks."""

LONGEST: Final = 25.0
"""Seconds that a question may wait for a position; less than an answer may take."""

WaitFor = Annotated[
    str | None,
    QueryParameter(
        description="Answer once the log is folded up to these positions: partition:offset, comma-separated, as X-Runfold-"
        "Position shows them. A record at offset 6 of partition 0 is folded at 0:7."
    ),
]
WaitSeconds = Annotated[
    float, QueryParameter(ge=0, le=LONGEST, description="For how long to wait for them, before 504 is the answer")
]
WAIT: Final = 10.0


class Positions:
    """The positions of an open store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._at = float("-inf")
        self._looking: asyncio.Task[list[PartitionStatus]] | None = None

    async def look(self) -> list[PartitionStatus]:
        """What the next look finds: at once where the last one is PAUSE seconds ago. Raises StoreError."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        return await asyncio.shield(self._looking)

    async def _look(self) -> list[PartitionStatus]:
        await asyncio.sleep(max(0.0, self._at + PAUSE - time.monotonic()))
        self._at = time.monotonic()
        return await self._store.partitions()

    async def until(
        self, true: Callable[[list[PartitionStatus]], bool], *, seconds: float
    ) -> list[PartitionStatus] | None:
        """The first look at which it is true; None where none is within these seconds. Raises StoreError."""
        end = time.monotonic() + seconds
        while not true(found := await self.look()):
            if time.monotonic() >= end:
                return None
        return found

    async def applied(self, wait_for: str, wait_seconds: float) -> None:
        """Return once these positions are folded: what a route's ``wait_for`` asks. Raises BadRequest, TimedOut."""
        wanted = vector.read(wait_for, param="wait_for")
        if await self.until(lambda found: _reached(wanted, found), seconds=wait_seconds) is None:
            raise TimedOut(
                f"The log was not folded up to {wait_for} within {wait_seconds:g} seconds: ask again, or see `runfold status`.",
                param="wait_for",
                code="position_not_reached",
            )

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await self._looking


def _reached(wanted: Vector, found: list[PartitionStatus]) -> bool:
    at = {status.partition: status.position for status in found}
    return all(at.get(partition, 0) >= position for partition, position in wanted.items())
