"""Batches that write to every table of a store, for the tests of what befalls stores."""

from __future__ import annotations

from typing import Any

from runfold.fold.changes import Changes, JournalEntry, Letter, PositionChange, RunChange
from runfold.fold.usage import SUMS, BucketKey, Dimensions
from runfold.store.digest import dump
from runfold.store.port import DoorChange, Lease, Store

FOLD = {"fold_version": 1, "compatible": (), "settings_hash": "s"}
PARTITIONS = {0: 0, 1: 0}


def batch(
    number: int, *, new: int = 30, old: dict[str, int] | None = None, body: int = 100, partition: int = 0
) -> Changes:
    """New rows, old rows that move to another thread, a letter, a journal entry, usage, tallies; one offset onwards."""
    bucket = BucketKey(number + 1, Dimensions("gpt", f"asst_{number}"), 6)
    place: dict[str, Any] = {"partition": partition, "offset": number, "timestamp": 1, "run_id": f"run_{number}_0"}
    runs = [_run(f"run_{number}_{n}", bucket.dimensions, b"x" * body, partition) for n in range(new)]
    runs += [
        _run(run_id, bucket.dimensions, b"y" * body, partition)._replace(handle=handle, thread_id="moved", status=6)
        for run_id, handle in (old or {}).items()
    ]
    return Changes(
        runs=runs,
        letters=[Letter(**place, reason="clock", detail="late", value=b"\xc1")],
        journal=[JournalEntry(**place, bucket=bucket, sums=(1,) * len(SUMS))],
        usage={bucket: [1] * len(SUMS), bucket._replace(minute=0): [1] * len(SUMS)},
        positions={partition: PositionChange(number, number + 1, number, b"hash")},
        tally={partition: {"applied": new}},
    )


def refold(number: int = 0) -> DoorChange:
    """A refold through the door that replaces the first run of a batch, its letter and its journal entry."""
    again = batch(number, new=1, body=50)
    return DoorChange(
        partition=0,
        run_id=f"run_{number}_0",
        before=b"x" * 100,
        before_letters=[number],
        changes=Changes(runs=again.runs, letters=again.letters, usage=again.usage),
    )


def _run(run_id: str, dimensions: Dimensions, body: bytes, partition: int) -> RunChange:
    return RunChange(partition, run_id, 0, f"thread_of_{run_id}", 1, 1000, 1, dimensions, None, None, body)


async def bound(store: Any) -> Any:
    """Opened, and tied to a log and a fold."""
    await store.open()
    await store.bind(cluster_id="c", topic="t", partitions=2, **FOLD)
    return store


async def claim(store: Store, owner: str = "me", *, lease: float = 60) -> dict[int, Lease]:
    return await store.claim(owner, PARTITIONS, lease=lease)


async def dumped(store: Store) -> list[bytes]:
    """The dump, and the tallies, which it leaves out but a transaction has to hold together too."""
    view = await store.snapshot()
    try:
        lines = [line async for line in dump(view)]
    finally:
        await view.close()
    return lines + [repr(status.tally).encode() for status in await store.partitions()]
