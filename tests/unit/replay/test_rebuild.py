"""Rebuild and switch: what comes of it on SQLite and on PostgreSQL, and what is refused."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from replay_world import correction, life, opened, run_ids

from runfold.fold.rules import Rules
from runfold.log.port import Message
from runfold.replay.order import EVERYTHING, Order
from runfold.replay.patient import Stalled
from runfold.replay.rebuild import rebuilding
from runfold.replay.switch import returning, switch
from runfold.store.port import Note, StoreRefused
from runfold.wiring import SHADOWS

RUNS = run_ids(8)


@pytest.fixture(params=sorted(SHADOWS))
async def served(request, tmp_path):
    """Eight whole runs, of which one was corrected, a broken record, an unknown type and a repeated event, all folded."""
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    async with opened(tmp_path, store_url=url) as made:
        for number, run_id in enumerate(RUNS):
            await made.publish(*life(run_id, at=number * 40, tokens=number + 1))
        unknown = Message(
            RUNS[5].encode(), b'{"type":"thread.run.dreamt","id":"x","run_id":"' + RUNS[5].encode() + b'"}'
        )
        broken = Message(RUNS[4].encode(), b"broken")
        await made.publish(correction(RUNS[2], tokens=70), life(RUNS[3])[1], broken, unknown)
        await made.serve()
        yield made


class Source:
    """A log that is read in another way than it would be."""

    def __init__(self, source):
        self._source = source

    def __getattr__(self, name):
        return getattr(self._source, name)


@asynccontextmanager
async def building(world, *, order=EVERYTHING, patience=30, source=None, **options):
    async with rebuilding(
        source or world.source, world.store, world.shadows, world.rules, order=order, patience=patience, **options
    ) as made:
        yield made


async def rebuilt(world, **options):
    """What comes of a rebuild, compared with the live store."""
    async with building(world, **options) as made:
        await made.follow()
        await world.shadows.complete(made.name)
        return await made.compare()


async def switched(world, **options):
    async with building(world, **options) as made:
        await made.follow()
        await switch(made, world.shadows)


async def gone_back(world):
    async with returning(world.source, world.store, world.shadows, world.rules, patience=30) as made:
        await switch(made, world.shadows)


async def roles(world):
    return [each.role for each in await world.shadows.standing()]


async def test_it_is_what_was_folded(served):
    """A rebuild of a store that is right has the same digest, and leaves the store as it was."""
    before = await served.digest()
    found = await rebuilt(served)
    assert found.identical
    assert found.rebuilt == before == await served.digest()
    assert (found.tables, found.usage, found.examples) == ({}, {}, [])


async def test_it_stays_beside_until_it_is_switched(served):
    """Afterwards there is a shadow, and the live store is the one of before."""
    await rebuilt(served)
    assert await roles(served) == ["live", "shadow"]


async def test_it_goes_on_where_it_was(served):
    """A rebuild begun again folds what came since, and nothing else."""
    await rebuilt(served)
    await served.publish(*life("later"))
    await served.serve()
    async with building(served) as made:
        await made.follow()
        assert made.shadow.done == 3
        assert (await made.compare()).identical


async def test_a_rebuild_that_failed_half_way_is_gone_on_with(served, monkeypatch):
    """What was committed before it ended is not folded again, and what comes of it is the same."""
    monkeypatch.setattr("runfold.replay.shadow.BATCH_RECORDS", 3)

    class Slow(Source):
        async def read(self, partition, **bounds):
            async for records in served.source.read(partition, **bounds):
                for record in records:
                    yield [record]

    def failing(done, total):
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        await rebuilt(served, source=Slow(served.source), progress=failing)
    async with building(served) as made:
        await made.follow()
        assert (await made.compare()).identical
        assert 0 < made.shadow.done < 28


async def test_it_is_not_ahead_of_the_live_store(served):
    """Records that the live store has not folded are not folded here either: both can be compared."""
    await served.publish(*life("later"))
    assert (await rebuilt(served)).identical


async def test_a_shadow_of_other_bounds_is_not_gone_on_with(served):
    """Who orders something else is told what there is, and how to be rid of it."""
    await rebuilt(served)
    with pytest.raises(StoreRefused, match=r"not with --until 5: .*--drop"):
        await rebuilt(served, order=Order(end=5, words="--until 5"))


async def test_a_shadow_of_another_fold_is_not_gone_on_with(served):
    """What was begun under other settings cannot be mixed with these."""
    await rebuilt(served)
    served.rules = Rules(project_key="team")
    with pytest.raises(StoreRefused, match="--drop"):
        await rebuilt(served)


async def test_notes_are_heeded_and_kept(served):
    """A record that was set aside is set aside, and every note is in the rebuilt store."""
    await served.publish(*life("killer"))
    (state,) = [each for each in await served.store.partitions() if each.partition == 0]
    notes = [
        Note(partition=which, offset=offset, kind=kind, reason="why", noted_at=7)
        for which, offset, kind in ((0, state.position, "set_aside"), (1, 0, "discard"))
    ]
    for note in notes:
        await served.store.add_note(note)
    await served.serve()
    assert (await rebuilt(served)).identical
    await switched(served)
    assert sorted(await served.store.notes(), key=lambda note: note.partition) == notes


async def test_a_record_set_aside_too_late_is_told(served):
    """A shadow that has folded it is not what the log with that note comes to."""
    await rebuilt(served)
    await served.store.add_note(Note(partition=0, offset=0, kind="set_aside", reason="why", noted_at=7))
    with pytest.raises(StoreRefused, match="offset 0 of partition 0 was set aside"):
        await rebuilt(served)


async def test_a_rebuild_until_an_offset_ends_there(served):
    """Of each partition it has what is below the bound, and it is no store to switch to."""
    async with building(served, order=Order(end={0: 2, 1: 3}, words="--until 0:2,1:3")) as made:
        await made.follow()
        assert made.shadow.positions == {0: 2, 1: 3}
        with pytest.raises(StoreRefused, match="not the whole"):
            await switch(made, served.shadows)
    assert await roles(served) == ["live", "shadow"]


async def test_a_rebuild_of_one_run_has_that_run(served):
    """Nothing but the run's own records is folded, and its row is that of the live store."""
    async with building(served, order=Order(run_id=RUNS[2], words="--run")) as made:
        await made.follow()
        await served.shadows.complete(made.name)
        rows = await made.shadow.store.find_run(RUNS[2])
        assert [row.body for row in rows] == [row.body for row in await served.store.find_run(RUNS[2])]
        assert (await made.shadow.store.count_runs())["completed"] == 1
        assert made.shadow.store is not served.store


async def test_a_log_that_begins_late_is_no_source_to_switch_to(served):
    """The runs that it cannot speak about are counted, and nothing is switched."""
    served.cut_log("delete from partition_0 where offset < 4")
    async with building(served) as made:
        await made.follow()
        assert await made.unverifiable() == 2
        with pytest.raises(StoreRefused, match="unverifiable"):
            await switch(made, served.shadows)
    assert await roles(served) == ["live", "shadow"]


async def test_retention_behind_the_shadow_does_no_harm(served):
    """What the shadow has folded the log need not have any more: it is gone on with, and switched to."""
    before = await rebuilt(served)
    served.cut_log("delete from partition_0 where offset < 4")
    await switched(served)
    assert await served.digest() == before.live


async def test_a_difference_is_told_by_run_and_field(served):
    """A changed fold shows how many runs differ, in what, and by how much usage moves."""
    before = served.rules
    served.rules = Rules(project_key="team")
    found = await rebuilt(served)
    served.rules = before
    assert not found.identical
    assert found.tables["run"].changed == 8
    assert found.tables["run"].fields["project_id"] == 8
    assert (found.tables["usage"].only_live, found.tables["usage"].only_rebuilt) == (5, 5)
    assert found.usage == {}
    example = next(each for each in found.examples if each.table == "run")
    assert example.fields["project_id"] == ("p", "")


async def test_work_that_stands_still_is_ended(served):
    """Without progress for so long it fails and says where it stands; how long it takes in all never matters."""

    class Hanging(Source):
        async def read(self, partition, *, begin, end, key=None):
            async for records in served.source.read(partition, begin=begin, end=min(end, 3), key=key):
                yield records
            await asyncio.sleep(3600)

    with pytest.raises(Stalled, match=r"no progress for 0\.2 s \(--patience\): partition 0 at 0, partition 1 at"):
        await rebuilt(served, source=Hanging(served.source), patience=0.2)


async def test_a_switch_changes_nothing_but_the_store(served):
    """The same digest, the same positions; the former stands beside it."""
    before = await served.digest()
    await switched(served)
    assert await served.digest() == before
    assert await roles(served) == ["live", "former"]


async def test_service_goes_on_in_the_new_store(served):
    """What comes after a switch is folded once: the store stays what the log says."""
    await switched(served)
    await served.publish(*life("later"), correction(RUNS[1], tokens=9))
    await served.serve()
    assert await served.digest() == await served.rebuilt()


async def test_a_record_between_the_rebuild_and_the_switch_is_in_it(served):
    """What is folded into the live store while the shadow waits to be switched to is not lost at the seam."""
    async with building(served) as made:
        await made.follow()
        await served.publish(*life("between"))
        await served.serve()
        await switch(made, served.shadows)
    assert [row.run_id for row in await served.store.find_run("between")] == ["between"]
    assert await served.digest() == await served.rebuilt()


async def test_a_worker_that_is_quicker_is_waited_out(served, monkeypatch):
    """Where the hold was lost before the exchange, nothing is switched then, and the next try does it."""
    exchange = type(served.shadows).exchange
    tries = []

    async def late(shadows, name, held):
        if not tries:
            await shadows.release(next(iter(owners)), held)
            await served.serve()  # claims: the epoch is another
        tries.append(name)
        await exchange(shadows, name, held)

    owners = []
    hold = type(served.shadows).hold

    async def noted(shadows, owner, *, lease):
        owners.append(owner)
        return await hold(shadows, owner, lease=lease)

    monkeypatch.setattr(type(served.shadows), "exchange", late)
    monkeypatch.setattr(type(served.shadows), "hold", noted)
    await switched(served)
    assert len(tries) == 2
    assert await served.digest() == await served.rebuilt()


async def test_going_back_catches_up_first(served):
    """The former store has what came since when it is live again: no read goes back in time."""
    await switched(served)
    await served.publish(*life("later"))
    await served.serve()
    before = await served.digest()
    await gone_back(served)
    assert await served.digest() == before
    assert await roles(served) == ["live", "former"]


async def test_notes_since_the_switch_come_back_too(served):
    """What people decided after a switch stands in the former store when it is gone back to."""
    await switched(served)
    note = Note(partition=0, offset=1, kind="discard", reason="known", noted_at=7)
    await served.store.add_note(note)
    await gone_back(served)
    assert await served.store.notes() == [note]


async def test_without_a_former_store_there_is_no_way_back(served):
    """It is said, and nothing is done."""
    with pytest.raises(StoreRefused, match="no former store"):
        await gone_back(served)


async def test_a_store_of_another_fold_is_not_gone_back_to(served):
    """Today's code cannot catch it up: the version that wrote it can."""
    served.rules, before = Rules(project_key="team"), served.rules
    await switched(served)
    with pytest.raises(StoreRefused, match="other settings"):
        await gone_back(served)
    served.rules = before
    await gone_back(served)
    assert (await served.store.identity()).settings_hash == before.settings_hash


async def test_a_service_with_the_old_fold_stops_at_the_switch(served):
    """Old code serves until the store of the new one is switched in: then it refuses to write, and says why."""
    old = served.rules
    served.rules = Rules(project_key="team")
    await switched(served)
    served.rules = old
    await served.publish(*life("later"))
    with pytest.raises(StoreRefused, match="other settings"):
        await served.serve()
