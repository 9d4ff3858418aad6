"""One hundred thousand byte strings, random and mutated, through codec, fold and store: every one ends somewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from runfold.fold.batch import PartitionFold
from runfold.fold.changes import Changes
from runfold.fold.outcome import EXPLANATIONS, Rejection
from runfold.fold.projection import project
from runfold.fold.record import StoredRecord
from runfold.fold.rules import COMPATIBLE, DEFAULT_RULES, FOLD_VERSION
from runfold.fold.state import decode_state
from runfold.store.port import RunFilter
from runfold.store.sqlite import SqliteStore
from runfold_schemas import Event, decode
from runfold_schemas.testing import random_bytes

RECORDS = 100_000
BATCH = 5_000
NOW = 2_000_000_000_000


def records(rng: Random) -> Iterator[StoredRecord]:
    """Records whose keys are right, wrong, null or no text, and whose timestamps are right, unknown or too early."""
    for offset in range(RECORDS):
        value = None if rng.random() < 0.01 else random_bytes(rng)
        told = decode(value)
        key = told.run_id.encode() if told.run_id is not None else b"run_1"
        if rng.random() < 0.2:
            key = rng.choice((None, b"", b"\xff\xfe", b"run_2", b"x" * 300))
        yield StoredRecord(offset, rng.choice((NOW, NOW, NOW, -1, 1)), key, value)


class Passed:
    """What is left of the records: counts from three sides, and the store."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.seen: Counter[str] = Counter()
        self.decoded: Counter[str] = Counter()
        self.fold = PartitionFold(0, watch=self.watch, most_runs=500)

    def watch(self, record: Any, event: Event | None, state: Any, verdict: Any) -> None:
        self.seen["rejected" if isinstance(verdict, Rejection) else verdict] += 1
        self.decoded[type(decode(record.value)).__name__] += 1

    async def take(self, batch: list[StoredRecord], lease: Any) -> None:
        changes = Changes()
        rows = await self.store.load(0, self.fold.absent(batch))
        self.fold.take_in((row.run_id, row.handle, row.body) for row in rows.values())
        begin, end = batch[0].offset, batch[-1].offset + 1
        self.fold.fold(batch, next_position=end, expected=begin, changes=changes)
        self.fold.settle(await self.store.apply(changes, {0: lease}))


@pytest.fixture
async def passed(tmp_path: Path) -> Any:
    store = SqliteStore(tmp_path / "store.db")
    await store.open()
    await store.bind(
        cluster_id="c",
        topic="t",
        partitions=1,
        fold_version=FOLD_VERSION,
        compatible=COMPATIBLE,
        settings_hash=DEFAULT_RULES.settings_hash,
    )
    lease = (await store.claim("test", {0: 0}, lease=600))[0]
    result = Passed(store)
    batch: list[StoredRecord] = []
    for record in records(Random(20260826)):
        batch.append(record)
        if len(batch) == BATCH:
            await result.take(batch, lease)
            batch = []
    yield result
    await store.close()


async def test_every_record_ends_in_an_outcome_or_a_dead_letter(passed: Passed) -> None:
    """Outcomes and dead letters, counted by whoever watches, by the store's tally and by its letters, are the input."""
    (partition,) = await passed.store.partitions()
    letters = await passed.store.count_letters()
    assert partition.position == RECORDS
    assert sum(partition.tally.values()) == RECORDS
    assert partition.tally == passed.seen
    assert set(partition.tally) <= set(EXPLANATIONS)
    assert sum(letters.values()) == partition.tally["rejected"]
    assert {"malformed", "unknown_type", "key_mismatch", "clock"} <= set(letters)
    assert letters["malformed"] == passed.decoded["Malformed"]
    assert letters["unknown_type"] == passed.decoded["Unknown"]
    for run in await passed.store.list_runs(RunFilter(limit=2_000)):
        assert project(decode_state(run.body))["id"] == run.run_id
