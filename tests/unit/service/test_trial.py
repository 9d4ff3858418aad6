"""Cutting a batch where nobody trusts its records: whatever the cut, each record comes once and in order."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from runfold.fold.record import StoredRecord
from runfold.service.fetching import Batch
from runfold.service.trial import Killers
from runfold.store.memory import MemoryStore
from runfold.store.port import ClaimHistory, Lease
from runfold.telemetry import get_logger


def batch(**partitions: range) -> Batch:
    """Records at these offsets; behind the last of each stands a mark that is no record."""
    records = {
        int(name[1:]): [StoredRecord(at, at, b"k", b"v", ()) for at in at_all] for name, at_all in partitions.items()
    }
    positions = {which: of[-1].offset + 2 for which, of in records.items()}
    size = sum(map(len, records.values()))
    return Batch(records, positions, seconds=0.0, size=size, bytes=size, newest=9)


def lease(position: int, **history: int) -> Lease:
    return Lease(partition=0, position=position, epoch=1, first_offset=0, history=ClaimHistory(**history))


@pytest.fixture
def killers() -> Killers:
    return Killers(MemoryStore(), reach=5, logger=get_logger())


def places(parts: list[Batch]) -> list[dict[int, list[int]]]:
    return [{which: [record.offset for record in of] for which, of in part.records.items()} for part in parts]


def test_without_suspicion_a_batch_stays_whole(killers: Killers) -> None:
    """Where nobody is wary, nothing is cut, and nothing is on trial, not even a single record."""
    whole = batch(p0=range(1))
    assert list(killers.cut(whole)) == [whole]
    assert killers.on_trial(whole) is None


async def test_the_wary_part_is_cut_into_single_records(killers: Killers) -> None:
    """First what is above suspicion, then one record at a time, then what lies behind; positions go with the records."""
    await killers.look_at({0: lease(10, stalled=3)}, ends={0: 13})
    parts = list(killers.cut(batch(p0=range(10, 16), p1=range(2))))
    assert places(parts) == [{1: [0, 1]}, {0: [10]}, {0: [11]}, {0: [12]}, {0: [13, 14, 15]}]
    assert [part.positions for part in parts] == [{1: 3}, {0: 11}, {0: 12}, {0: 13}, {0: 17}]
    assert [killers.on_trial(part) for part in parts] == [None, (0, 10), (0, 11), (0, 12), None]


async def test_suspicion_reaches_as_far_as_a_batch_may(killers: Killers) -> None:
    """The stretch on trial ends where a batch of those who died can have ended; passed, it is over."""
    await killers.look_at({0: lease(10, stalled=3)}, ends={0: 1_000})
    assert killers.wary == {0: 15}
    killers.passed({0: 14})
    assert killers.wary == {0: 15}
    killers.passed({0: 15})
    assert killers.wary == {}


async def test_an_idle_partition_is_above_suspicion(killers: Killers) -> None:
    """Where nothing waits no record can have killed anybody."""
    await killers.look_at({0: lease(10, stalled=9)}, ends={0: 10})
    assert killers.wary == {}


async def test_a_suspect_alone_is_on_trial_again(killers: Killers) -> None:
    """After one death only the record that was in hand is taken alone; a second time it is set aside."""
    await killers.look_at({0: lease(10, suspect=12, deaths=1)}, ends={0: 1_000})
    assert (killers.wary, killers.set_aside) == ({0: 13}, {})
    with capture_logs() as logs:
        await killers.look_at({0: lease(10, suspect=12, deaths=2)}, ends={0: 1_000})
    assert killers.set_aside[0].keys() == {12}
    assert [line["offset"] for line in logs if line["event"] == "record_set_aside"] == [12]
    single = batch(p0=range(12, 13))
    assert killers.on_trial(single) is None
