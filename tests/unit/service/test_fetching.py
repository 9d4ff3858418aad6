"""Batches: cut by count, bytes and time; a fetch that is given up loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from serving import fill, messages, traffic

from runfold.log.port import Message, RangeLost
from runfold.log.sqlite import SqliteSink, SqliteSource
from runfold.service.fetching import Batch, dismiss, fetch
from runfold.service.options import Options

SOON = 0.05


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[SqliteSource]:
    """A log of one partition with 100 records, read from its beginning."""
    made = SqliteSource(await fill(tmp_path, messages(traffic(100)), partitions=1))
    await made.start()
    made.assign({0: 0})
    yield made
    await made.close()


def options(**given: float) -> Options:
    return Options(**{"idle_wait": SOON, "batch_linger": 0, **given})


def offsets(batch: Batch) -> list[int]:
    return [record.offset for record in batch.records.get(0, [])]


async def test_count_bounds_a_batch(source: SqliteSource) -> None:
    """No batch has more records than the bound, and together they have all."""
    batches = [await fetch(source, options(batch_records=40)) for _ in range(3)]
    assert [len(offsets(batch)) for batch in batches] == [40, 40, 20]
    assert [batch.positions for batch in batches] == [{0: 40}, {0: 80}, {0: 100}]


async def test_bytes_bound_a_batch(source: SqliteSource) -> None:
    """No batch has more bytes of values than the bound, but for a single record that is larger."""
    for _ in range(20):
        batch = await fetch(source, options(batch_bytes=1_000))
        sizes = [len(record.value or b"") for record in batch.records[0]]
        assert len(sizes) == 1 or sum(sizes) <= 1_000


async def test_a_record_above_the_bound_passes(tmp_path: Path) -> None:
    """A record larger than the bound of a batch comes alone, and does not stop those behind it."""
    large = [Message(b"run", b"x" * size) for size in (10, 5_000, 10)]
    source = SqliteSource(await fill(tmp_path, large, partitions=1))
    await source.start()
    source.assign({0: 0})
    found = [offsets(await fetch(source, options(batch_bytes=100))) for _ in range(3)]
    await source.close()
    assert found == [[0], [1], [2]]


async def test_nothing_new_gives_an_empty_batch(source: SqliteSource) -> None:
    """Where no record comes within the idle wait, the batch is empty and no position moves."""
    await fetch(source, options())
    batch = await fetch(source, options())
    assert (batch.records, batch.positions) == ({}, {})
    assert batch.seconds >= SOON


async def test_linger_gathers_what_comes_late(tmp_path: Path, source: SqliteSource) -> None:
    """A record that comes while a batch lingers belongs to it."""
    fetching = asyncio.create_task(fetch(source, options(batch_linger=10, batch_records=101)))
    sink = SqliteSink(tmp_path / "runfold.log.db")
    await sink.start()
    await sink.append(messages(traffic(1, seed=9)))
    await sink.close()
    async with asyncio.timeout(5):
        assert len(offsets(await fetching)) == 101


async def test_linger_ends(source: SqliteSource) -> None:
    """A batch that is not full goes when its time has come."""
    batch = await fetch(source, options(batch_linger=SOON, batch_records=1_000))
    assert len(offsets(batch)) == 100
    assert SOON <= batch.seconds < 1


async def test_a_dismissed_fetch_loses_nothing(source: SqliteSource) -> None:
    """After a fetch was given up, at whatever instant, its records are read again from where they were."""
    for turns in range(8):
        source.assign({0: 0})
        fetching = asyncio.create_task(fetch(source, options(batch_linger=1, batch_records=1_000)))
        for _ in range(turns):
            await asyncio.sleep(0)
        await dismiss(fetching)
        source.assign({0: 0})
        assert offsets(await fetch(source, options(batch_records=50))) == list(range(50))


async def test_a_dismissed_fetch_keeps_its_error(source: SqliteSource) -> None:
    """A fetch that failed before it was given up disturbs nobody: its error comes again when it is read again."""
    source.assign({0: -5})
    fetching = asyncio.create_task(fetch(source, options()))
    await asyncio.wait((fetching,))
    await dismiss(fetching)
    with pytest.raises(RangeLost):
        await fetch(source, options())
