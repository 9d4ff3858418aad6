from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from random import Random

import pytest
from replay_world import World, correction, life, opened, run_ids

from runfold.demo.traffic import interleaved
from runfold.fold.batch import PartitionFold
from runfold.fold.changes import Changes
from runfold.fold.projection import project
from runfold.fold.state import decode_state
from runfold.log.port import Message
from runfold.log.sqlite import SqliteSink
from runfold.replay.as_of import folded_to, reached, run_as_of
from runfold.replay.cut import CutRefused, cut_at_time, cut_behind
from runfold.replay.run_range import RefoldRefused
from runfold.replay.usage_as_of import usage_as_of
from runfold.store.port import RunFilter, StoreRefused
from runfold_schemas import encode

START, STEP = 1_760_000_000_000, 1_000


@pytest.fixture
async def timed(tmp_path):
    """3,000 events of real-looking traffic, a second of publishing for every 50 of them, all folded."""
    now = [START]
    async with opened(tmp_path, partitions=4) as world:
        sink = SqliteSink(world.log, partitions=4, clock=lambda: now[0])
        await sink.start()
        events = interleaved(60, Random(7), start=START)
        for _ in range(60):
            batch = list(islice(events, 50))
            await sink.append([Message(event.run_id.encode(), encode(event)) for event in batch])
            now[0] += STEP
        await sink.close()
        await world.serve()
        yield world


async def of(world: World, run_id: str, cut):
    return await run_as_of(world.source, world.store, world.rules, run_id=run_id, cut=cut)


async def plain(world: World, until: int) -> dict[str, dict]:
    """Every Run by a plain fold of what was published before a time."""
    runs: dict[str, dict] = {}
    for partition in range(world.partitions):
        records = [record for record in await world.read(partition) if record.timestamp < until]
        changes = Changes()
        PartitionFold(partition, rules=world.rules).fold(records, next_position=0, expected=0, changes=changes)
        runs |= {row.run_id: project(decode_state(row.body)) for row in changes.runs}
    return runs


async def check_instants(world: World, *, runs: int, instants: int) -> None:
    """Random runs at random instants are what a fold of the log of then says; both origins come up."""
    random = Random(11)
    latest = await plain(world, 2**62)
    names, origins = random.sample(sorted(latest), runs), set()
    for _ in range(instants):
        time = START + random.randrange(-STEP, 61 * STEP)
        cut, expected = await cut_at_time(world.source, time), await plain(world, time)
        for run_id in names:
            parts = [part for part in await of(world, run_id, cut) if part.state is not None]
            origins |= {part.origin for part in parts}
            assert [project(part.state) for part in parts] == ([expected[run_id]] if run_id in expected else [])
    assert origins == {"store", "log"}


async def test_random_runs_at_random_instants(timed):
    """Twenty runs at five instants: each is what the log of then says."""
    await check_instants(timed, runs=20, instants=5)


@pytest.mark.faults
@pytest.mark.timeout(600)
async def test_two_hundred_runs_at_fifty_instants(timed):
    """Two hundred runs at fifty instants: each is what the log of then says."""
    await check_instants(timed, runs=200, instants=50)


async def test_usage_at_random_instants(timed):
    """What was known at any instant is the usage of a log of then, from the store and from the log alike."""
    random = Random(5)
    for _ in range(5):
        cut = await cut_at_time(timed.source, START + random.randrange(61 * STEP))
        async with folded_to(timed.source, timed.store, timed.rules, cut=cut, workspace=timed.workspace) as then:
            expected = await then.usage()
        for from_log in (False, True):
            found = await usage_as_of(
                timed.source, timed.store, timed.rules, cut=cut, workspace=timed.workspace, from_log=from_log
            )
            assert found.rows == expected


async def test_a_list_is_of_the_store_where_that_stands_at_the_cut(served):
    """A store at the end of the log is what a cut there asks for, and nothing else is."""
    assert await reached(served.store, await cut_at_time(served.source, 2**60))
    assert not await reached(served.store, await cut_behind(served.source, {0: 0}))


async def test_a_list_shows_runs_as_they_were(served):
    """Behind its second record a run that has ended since is in progress."""
    (first,) = run_ids(1, partition=0)
    async with folded_to(
        served.source,
        served.store,
        served.rules,
        cut=await cut_behind(served.source, {0: 1, 1: 0}),
        workspace=served.workspace,
    ) as then:
        rows = await then.list_runs(RunFilter(status=1, limit=10))
    assert [row.run_id for row in rows] == [first]


async def test_a_run_before_its_first_record_is_not_known(served):
    """Nothing stood in the log then, and the store can tell so."""
    cut = {0: 0, 1: 0}
    assert [(part.state, part.origin) for part in await of(served, run_ids(1)[0], cut)] == [(None, "store")] * 2


async def test_changes_name_late_runs_and_corrections(served):
    """A run that became final behind the cut is late; a correction of one that was final before it is a difference."""
    corrected = run_ids(8)[2]
    places = await _places_of(served, corrected)
    cut = await cut_behind(served.source, {which: places[-1][1] - 1 for which, _ in places[-1:]})
    found = await usage_as_of(served.source, served.store, served.rules, cut=cut, workspace=served.workspace)
    assert [(change.kind, change.run_id, change.sums[2]) for change in found.changes] == [("corrected", corrected, 67)]
    nothing: Mapping[int, int] = dict.fromkeys(cut, 0)
    found = await usage_as_of(served.source, served.store, served.rules, cut=nothing, workspace=served.workspace)
    assert {change.kind for change in found.changes} == {"late"}
    assert sorted(change.run_id for change in found.changes) == sorted(run_ids(8))
    assert found.rows == []


async def test_what_the_store_has_not_folded_is_folded_from_the_log(world):
    """Before anything is folded the log tells, and nothing can have changed since."""
    run_id = run_ids(1)[0]
    await world.publish(*life(run_id))
    await world.bind(world.store)
    cut = await cut_at_time(world.source, 2**60)
    (part,) = [part for part in await of(world, run_id, cut) if part.state is not None]
    assert (part.origin, project(part.state)["status"]) == ("log", "completed")
    found = await usage_as_of(world.source, world.store, world.rules, cut=cut, workspace=world.workspace)
    assert (found.origin, found.changes, len(found.rows)) == ("log", None, 1)


async def test_a_correction_from_then_on(world):
    """As known before the correction the run used what its end said, and after it what the correction said."""
    run_id = run_ids(1, partition=0)[0]
    await world.publish(*life(run_id, tokens=10), correction(run_id, tokens=99))
    await world.serve()
    for offset, tokens in ((2, 10), (3, 99)):
        cut = await cut_behind(world.source, {0: offset})
        found = await usage_as_of(world.source, world.store, world.rules, cut=cut, workspace=world.workspace)
        assert [row.sums[2] for row in found.rows] == [tokens]


@pytest.mark.parametrize("places", [{7: 0}, {0: 10_000}])
async def test_a_place_the_log_does_not_have_is_named(served, places):
    """No such partition, and no such offset: the message says what there is."""
    with pytest.raises(CutRefused, match="the log has"):
        await cut_behind(served.source, places)


async def test_a_log_that_lost_its_begin_is_named(served):
    """Where neither store nor log can tell, the lost offsets are named; where the store can, it does."""
    run_id = run_ids(1, partition=0)[0]
    cut = await cut_behind(served.source, {0: 1})
    served.cut_log("delete from partition_0 where offset < 1")
    with pytest.raises(RefoldRefused, match="offsets 0 to"):
        await of(served, run_id, cut)
    with pytest.raises(RefoldRefused, match="offsets 0 to 0 are gone"):
        async with folded_to(served.source, served.store, served.rules, cut=cut, workspace=served.workspace):
            pass
    found = await usage_as_of(served.source, served.store, served.rules, cut=cut, workspace=served.workspace)
    assert found.origin == "store"
    late = await cut_at_time(served.source, 2**60)
    assert [part.origin for part in await of(served, run_id, late) if part.state] == ["store"]


async def test_the_store_of_another_log_is_refused(served, tmp_path):
    """Another log's past is no answer."""
    other = tmp_path / "other"
    other.mkdir()
    async with opened(other) as foreign:
        cut = await cut_at_time(foreign.source, 2**60)
        with pytest.raises(StoreRefused, match="belongs to the log"):
            await run_as_of(foreign.source, served.store, served.rules, run_id="x", cut=cut)


async def _places_of(world: World, run_id: str) -> list[tuple[int, int]]:
    return [
        (which, record.offset)
        for which in range(world.partitions)
        for record in await world.read(which)
        if record.key == run_id.encode()
    ]
