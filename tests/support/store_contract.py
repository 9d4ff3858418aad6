"""Builders of what the store contract writes, and what it reads back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from runfold.fold.changes import Changes, JournalEntry, Letter, PositionChange, RunChange
from runfold.fold.usage import SUMS, BucketKey, Dimensions
from runfold.store.digest import dump
from runfold.store.port import DoorChange, RunFilter, Store
from runfold_schemas import RunStatus

StoreFactory = Callable[[], Awaitable[Any]]
LOG = {"cluster_id": "log-1", "topic": "events", "partitions": 4}
FOLD = {"fold_version": 3, "compatible": (2,), "settings_hash": "abc"}
GPT = Dimensions("gpt-4o", "asst_1", "proj_1", "user_1", "")
NAMELESS = Dimensions()


def run(run_id: str, *, partition: int = 0, handle: int = 0, body: bytes = b"body", **columns: Any) -> RunChange:
    known = {"thread_id": "thread_1", "status": RunStatus.QUEUED, "created_at": 1000, "flags": 0, "dimensions": GPT}
    booked = {"minute": None, "final_timestamp": None}
    return RunChange(partition=partition, run_id=run_id, handle=handle, body=body, **{**known, **booked, **columns})


def letter(offset: int, *, partition: int = 0, run_id: str | None = "run_a", **fields: Any) -> Letter:
    known = {"timestamp": 5, "reason": "malformed", "detail": "no map", "key": b"run_a", "value": b"\x00\xff"}
    return Letter(partition=partition, offset=offset, run_id=run_id, **{**known, **fields})


def moves(partition: int = 0, *, begin: int = 0, end: int = 10) -> dict[int, PositionChange]:
    return {partition: PositionChange(begin, end, end - 1, b"hash")}


def sums(runs: int) -> list[int]:
    return [runs * (place + 1) for place in range(len(SUMS))]


def bucket(minute: int = 7, dimensions: Dimensions = GPT, status: int = RunStatus.COMPLETED) -> BucketKey:
    return BucketKey(minute, dimensions, status)


def entry(offset: int, *, run_id: str = "run_a", runs: int = 1) -> JournalEntry:
    place = {"partition": 0, "offset": offset, "timestamp": 5}
    return JournalEntry(**place, run_id=run_id, bucket=bucket(), sums=tuple(sums(runs)))


def door(before: bytes | None, *letters: int, **changes: Any) -> DoorChange:
    return DoorChange(partition=0, run_id="run_a", before=before, before_letters=letters, changes=Changes(**changes))


async def dumped(store: Store) -> list[bytes]:
    snapshot = await store.snapshot()
    try:
        return [line async for line in dump(snapshot)]
    finally:
        await snapshot.close()


async def ids(store: Store, **wanted: Any) -> list[str]:
    return [row.run_id for row in await store.list_runs(RunFilter(**wanted))]
