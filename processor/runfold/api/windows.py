"""What changed between two positions of the log: the log is the feed's index, the store has the latest states.

A *window* lies between two vectors of positions. The keys of its records say which runs may have changed, their rows say how
they stand; the fold and the store do nothing for it (docs/decisions/0026). A run is of the window that holds its last offset:
one that has moved on since the window's end is of a later one, so that within a partition last offsets only ever rise.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Final

from runfold.api import vector
from runfold.api.log_access import LogAccess
from runfold.api.vector import Vector
from runfold.fold.projection import encode_run
from runfold.fold.state import RunState, decode_state
from runfold.log.port import LogSource
from runfold.store.port import Store

MOST_OFFSETS: Final = 1_000
"""A window's size: it is read on the loop that answers everybody else too."""

KEPT: Final = 16
"""Windows that readers who follow one another find ready."""


class Change:
    """How a run stands since the record at ``offset``, its last."""

    def __init__(self, partition: int, state: RunState) -> None:
        self.partition, self.offset, self.state = partition, state.last_offset, state

    @cached_property
    def body(self) -> bytes:
        """The Run as JSON, made once for all readers."""
        return encode_run(self.state)


class Window:
    """The changes between two vectors, by partition and offset."""

    def __init__(self, begin: Vector, end: Vector, changes: Sequence[Change]) -> None:
        self.begin, self.end, self.changes = begin, end, changes


class Windows:
    """Windows of an open store and its log. Readers at the same place share one; two never are read at a time."""

    def __init__(self, store: Store, log: LogAccess) -> None:
        self._store, self._log = store, log
        self._turn = asyncio.Lock()
        self._kept: OrderedDict[str, asyncio.Task[Window]] = OrderedDict()

    async def behind(self, begin: Vector, tip: Vector) -> Window:
        """The window from ``begin`` towards ``tip``, which the store has reached. Raises LogError, StoreError."""
        name = vector.shown(begin)
        kept = self._kept.get(name)
        if kept is None or (kept.done() and (kept.cancelled() or kept.exception() is not None)):
            kept = self._kept[name] = asyncio.create_task(self._read(begin, tip))
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return await asyncio.shield(kept)

    async def _read(self, begin: Vector, tip: Vector) -> Window:
        ends = _ends(begin, tip)
        changes: list[Change] = []
        async with self._turn:
            source = await self._log.source()
            for partition, end in ends.items():
                changes += await self._changes(source, partition, begin=begin[partition], end=end)
        return Window(begin, {**begin, **ends}, changes)

    async def _changes(self, source: LogSource, partition: int, *, begin: int, end: int) -> list[Change]:
        run_ids = {run_id async for run_id in _keys(source, partition, begin=begin, end=end)}
        rows = await self._store.load(partition, list(run_ids)) if run_ids else {}
        states = (decode_state(row.body) for row in rows.values())
        found = [Change(partition, state) for state in states if begin <= state.last_offset < end]
        return sorted(found, key=lambda change: change.offset)

    async def close(self) -> None:
        for task in self._kept.values():
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


def _ends(begin: Vector, tip: Vector) -> dict[int, int]:
    """Where a window ends in each partition that has gone on; partitions share its size."""
    moved = [partition for partition, position in begin.items() if tip.get(partition, 0) > position]
    share = max(1, MOST_OFFSETS // max(1, len(moved)))
    return {partition: min(tip[partition], begin[partition] + share) for partition in moved}


async def _keys(source: LogSource, partition: int, *, begin: int, end: int) -> AsyncIterator[str]:
    """The runs that records name by their key; one whose key is no text is of no run."""
    async for records in source.read(partition, begin=begin, end=end):
        for record in records:
            with suppress(UnicodeDecodeError):
                yield (record.key or b"").decode()
