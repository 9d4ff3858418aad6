"""A log that has grown partitions: how many runs that may split, and the refusal that says so."""

from __future__ import annotations

from runfold.store.port import PartitionsGrown, Store
from runfold_schemas import RunStatus


async def open_runs(store: Store) -> int:
    """How many runs are under way: their next events may go to another partition than those before."""
    counts = await store.count_runs()
    return sum(counts[status.wire] for status in RunStatus if status < RunStatus.CANCELLED)


async def with_open_runs(refused: PartitionsGrown, store: Store) -> PartitionsGrown:
    """The same refusal, naming how many open runs may split."""
    return PartitionsGrown(f"{await open_runs(store):,} open runs may split: {refused}")
