"""Archiving beside a service, and replay over an archive: the same answers as over the log."""

from __future__ import annotations

import asyncio

import pytest
from archives import SMALL, archive_log, plain, read_all, started
from replay_world import life, run_ids

from runfold.log.archive import ArchiveSource
from runfold.log.archive_manifest import Limits
from runfold.log.archive_writer import ArchiveWriter
from runfold.log.port import LogUnreachable
from runfold.log.whole import WholeLog
from runfold.replay.archiving import archive, follow
from runfold.replay.history import history
from runfold.replay.run_range import RefoldRefused
from runfold.replay.verify import verify
from runfold.store.port import StoreRefused


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "archive"


@pytest.fixture
def whole(served, folder):
    """The log with its archive behind it."""
    return WholeLog(ArchiveSource(folder), type(served.source)(served.log), where=folder)


async def verified(served, source):
    return await verify(source, served.store, served.rules, workspace=served.workspace)


def forget(served, *, keep):
    """Delete all but the last ``keep`` records of each partition from the log."""
    for which in range(served.partitions):
        table = f"partition_{which}"
        served.cut_log(f"DELETE FROM {table} WHERE offset <= (SELECT max(offset) FROM {table}) - ?", keep)


async def test_verify_over_an_archive_is_verify_over_the_log(served, folder):
    """A store is proven from the archive as from the log it was folded from: the same digests, and nothing left out."""
    await archive_log(served.log, folder)
    expected = await verified(served, served.source)
    async with started(ArchiveSource(folder)) as source:
        found = await verified(served, source)
    assert found == expected
    assert found.identical
    assert found.unverifiable == 0


async def test_verify_over_archive_and_tail(served, folder, whole):
    """Where retention has eaten the log's start, archive and tail together prove what the log alone no longer can."""
    expected = await verified(served, served.source)
    await archive_log(served.log, folder)
    forget(served, keep=3)
    assert (await verified(served, served.source)).unverifiable > 0
    async with started(whole) as source:
        assert await verified(served, source) == expected


async def test_history_over_an_archive_and_over_archive_and_tail(served, folder, whole):
    """A run's history is the same from the log, from the archive, and from what is left of the log with the archive."""
    runs = run_ids(8)
    expected = [await history(served.source, served.store, served.rules, run_id) for run_id in runs]
    await archive_log(served.log, folder)
    forget(served, keep=3)
    with pytest.raises(RefoldRefused):
        await history(served.source, served.store, served.rules, runs[0])
    for side in (ArchiveSource(folder), whole):
        async with started(side) as source:
            assert [await history(source, served.store, served.rules, run_id) for run_id in runs] == expected


async def test_an_archive_that_ends_before_the_store(served, folder):
    """An archive that does not reach the store's positions proves nothing, and says so."""
    await archive_log(served.log, folder)
    await served.publish(*life("run_of_tomorrow"))
    await served.serve()
    async with started(ArchiveSource(folder)) as source:
        with pytest.raises(StoreRefused, match="the log ends at"):
            await verified(served, source)


async def test_progress_is_told_in_offsets(served, folder):
    """Progress ends with all offsets of the log, and goes over what is archived already."""
    ends = {which: held.end for which, held in (await served.source.ranges(range(2))).items()}
    told = []
    writer = ArchiveWriter(folder, Limits(records=10))
    with writer.lock():
        async for _ in archive(served.source, writer, progress=lambda done, total: told.append((done, total))):
            pass
    assert told[-1] == (sum(ends.values()), sum(ends.values()))
    assert told == sorted(told)


class Following:
    """``follow``, until told to stop; ``now`` is what its clock shows."""

    def __init__(self, source, folder, limits, monkeypatch) -> None:
        monkeypatch.setattr("runfold.replay.archiving._LOOK_SECONDS", 0.01)
        self.now = 0.0
        self.segments = asyncio.Queue()
        self._source, self._writer = source, ArchiveWriter(folder, limits)
        self.looked = 0

    async def run(self) -> None:
        with self._writer.lock():
            async for segment in follow(self._source, self._writer, age=60, clock=self._clock):
                await self.segments.put((segment.partition, segment.begin, segment.end))

    def _clock(self) -> float:
        self.looked += 1
        return self.now

    async def looks(self, times: int = 4) -> None:
        """Return when it has looked some more times."""
        until = self.looked + times
        while self.looked < until:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.005)


@pytest.fixture
async def following(world, folder, monkeypatch):
    await world.publish(*life(run_ids(1, partition=0)[0]))
    made = Following(world.source, folder, Limits(records=6), monkeypatch)
    task = asyncio.create_task(made.run())
    async with asyncio.timeout(30):
        yield made
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_following_begins_with_what_there_is(following):
    """What the log has at the start is archived at once."""
    assert await following.segments.get() == (0, 0, 3)


async def test_following_waits_until_it_is_time(world, following):
    """A few new records wait for as long as the age says, and are archived then."""
    await following.segments.get()
    await world.publish(*life(run_ids(2, partition=0)[1]))
    await following.looks()
    assert following.segments.empty()
    following.now += 60
    assert await following.segments.get() == (0, 3, 6)


async def test_following_archives_a_full_segment_at_once(world, following):
    """As soon as a partition has enough for a segment, it is written."""
    await following.segments.get()
    for run_id in run_ids(3, partition=1):
        await world.publish(*life(run_id))
    assert await following.segments.get() == (1, 0, 6)


async def test_following_bears_a_log_that_is_away(world, folder, monkeypatch):
    """A log that does not answer is asked again, until the patience ends."""
    following = Following(world.source, folder, Limits(records=6, patience=10), monkeypatch)
    away = True
    ranges = world.source.ranges

    async def answer(partitions):
        if away:
            raise LogUnreachable("away")
        return await ranges(partitions)

    monkeypatch.setattr(world.source, "ranges", answer)
    await world.publish(*life(run_ids(1, partition=0)[0]))
    task = asyncio.create_task(following.run())
    await following.looks()
    away = False
    assert await following.segments.get() == (0, 0, 3)
    away = True
    await following.looks()
    following.now += 11
    with pytest.raises(LogUnreachable, match="away"):
        await task


async def test_a_segment_of_a_run_of_archives_is_the_log(served, folder):
    """However often it was archived in between, the archive is the log."""
    for run_id in run_ids(4, partition=0):
        await archive_log(served.log, folder, SMALL)
        await served.publish(*life(f"more_{run_id}"))
    await archive_log(served.log, folder, SMALL)
    async with started(ArchiveSource(folder)) as source:
        for which in range(2):
            assert plain(await read_all(source, which)) == plain(await read_all(served.source, which))
