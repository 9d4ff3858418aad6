"""History: every record of a run, what became of it, and what it changed."""

from __future__ import annotations

import asyncio

import pytest
from fold_stories import START
from replay_world import NOW, correction, life, run_ids

from runfold.log.port import Message
from runfold.log.sqlite import SqliteSink, SqliteSource
from runfold.replay.history import Change, follow, history
from runfold.replay.run_range import RefoldRefused
from runfold.store.port import Note, StoreRefused
from runfold_schemas import RunInProgress, encode
from runfold_schemas.codec import decode_lean

RUN, OTHER, *_ = run_ids(3, partition=0)


async def told_of(world, *told):
    """The history of the run after these records were published and folded."""
    await world.publish(*told)
    await world.serve()
    return await history(world.source, world.store, world.rules, RUN)


async def test_every_record_of_the_run_is_told_in_order(world):
    """Records of other runs are left out, those of the run stand by offset."""
    first, second, third = life(RUN)
    entries = await told_of(world, first, *life(OTHER), second, third)
    assert [(entry.partition, entry.offset, entry.type) for entry in entries] == [
        (0, 0, "thread.run.created"),
        (0, 4, "thread.run.in_progress"),
        (0, 5, "thread.run.completed"),
    ]


async def test_an_entry_says_who_published_what_and_when(world):
    """Event id, both times, source and sequence are the record's own."""
    entry = (await told_of(world, *life(RUN)))[1]
    assert (entry.event_id, entry.source, entry.sequence) == ("e2", "a", 2)
    assert (entry.timestamp, entry.occurred_at) == (NOW, (START + 2) * 1000)


async def test_the_first_event_tells_what_it_brought(world):
    """The entry of created shows the fields that it told, and none that stayed empty."""
    changed = (await told_of(world, *life(RUN)))[0].changed
    assert changed["model"] == Change(before=None, after="gpt-4o")
    assert not changed.keys() & {"usage", "tools", "last_error", "flags", "missing"}


async def test_a_change_of_status_is_told(world):
    """What a status event changed is told with the value before it."""
    changed = (await told_of(world, *life(RUN)))[1].changed
    assert changed == {
        "status": Change(before="queued", after="in_progress"),
        "started_at": Change(before=None, after=START + 2),
    }


async def test_usage_is_told_where_it_moves(world):
    """The end books the run in a bucket, a correction moves it by the difference."""
    entries = await told_of(world, *life(RUN, tokens=10), correction(RUN, tokens=70))
    moves = [[(move.bucket.minute, move.sums[0], move.sums[2]) for move in entry.usage] for entry in entries]
    minute = (START + 3) // 60
    assert moves == [[], [], [(minute, 1, 10)], [(minute, 0, 60)]]


async def test_a_duplicate_changed_nothing_and_says_so(world):
    """An event that came again is explained."""
    entry = (await told_of(world, *life(RUN), life(RUN)[1]))[-1]
    assert (entry.outcome, entry.changed, entry.usage) == ("duplicate", {}, [])
    assert "was folded before" in entry.explanation


async def test_flags_and_gaps_are_told(world):
    """A number that is missing shows as a flag and as a range, until it comes."""
    first, second, third = life(RUN)
    entries = await told_of(world, first, third, second)
    assert entries[1].changed["flags"] == Change(before=[], after=["missing"])
    assert [gap[1:] for gap in entries[1].changed["missing"].after] == [(2, 2)]
    assert entries[2].changed["flags"].after == []


async def test_a_dead_letter_is_told_with_its_reason(world):
    """A record that could not be read stands in the history, and says why."""
    entry = (await told_of(world, *life(RUN), Message(RUN.encode(), b"broken")))[-1]
    assert (entry.outcome, entry.reason, entry.type, entry.event_id) == ("rejected", "malformed", None, None)
    assert entry.explanation


async def test_of_a_dead_letter_is_told_what_can_be_read(world):
    """An unknown type is named; so is a known one under the wrong key."""
    unknown = Message(RUN.encode(), encode(life(RUN)[1]).replace(b"thread.run.in_progress", b"thread.run.in_limbo_xy"))
    foreign = Message(RUN.encode(), encode(life(OTHER)[1]))
    entries = await told_of(world, *life(RUN), unknown, foreign)
    assert [(entry.reason, entry.type) for entry in entries[3:]] == [
        ("unknown_type", "thread.run.in_limbo_xy"),
        ("key_mismatch", "thread.run.in_progress"),
    ]


async def test_a_record_that_was_set_aside_is_not_decoded(world):
    """What killed processes does not kill the one that looks at it."""
    deadly = RunInProgress(run_id=RUN, thread_id="t", id="deadly", occurred_at=START * 1000)

    def careful(value):
        assert value != encode(deadly)
        return decode_lean(value)

    await world.publish(*life(RUN), deadly)
    await world.store.add_note(Note(partition=0, offset=3, kind="set_aside", reason="it kills", noted_at=1))
    await world.serve()
    entries = await history(world.source, world.store, world.rules, RUN, decode=careful)
    assert (entries[3].reason, entries[3].explanation, entries[3].type) == ("set_aside", "it kills", None)


async def test_only_the_range_of_the_run_is_read(world):
    """What lies before and behind the run's range may be gone from the log."""
    await world.publish(*life(OTHER), *life(RUN), *[life(OTHER)[1]] * 3)
    await world.serve()
    world.cut_log("delete from partition_0 where offset < 3 or offset > 5")
    assert len(await history(world.source, world.store, world.rules, RUN)) == 3


async def test_a_run_of_which_the_log_lacks_records_is_refused(world):
    """Half a history would be told wrongly: it is refused, naming what is missing."""
    await world.publish(*life(RUN))
    await world.serve()
    world.cut_log("delete from partition_0 where offset = 0")
    with pytest.raises(RefoldRefused, match="the log has 1 to 2"):
        await history(world.source, world.store, world.rules, RUN)


async def test_an_unknown_run_has_no_history(world):
    """Of a run that nobody told of there is nothing to tell."""
    await world.publish(*life(OTHER))
    await world.serve()
    assert await history(world.source, world.store, world.rules, RUN) == []


async def test_letters_before_the_first_event_belong_to_the_history(world):
    """The range begins with the first letter, where that came before the row."""
    entries = await told_of(world, Message(RUN.encode(), b"broken"), *life(RUN))
    assert [entry.outcome for entry in entries] == ["rejected", "applied", "applied", "applied"]


async def test_the_history_of_another_log_is_refused(served, tmp_path):
    """A history is not told from a log that the store does not belong to."""
    sink = SqliteSink(tmp_path / "other.db", partitions=2)
    await sink.start()
    await sink.close()
    other = SqliteSource(tmp_path / "other.db")
    await other.start()
    with pytest.raises(StoreRefused, match="belongs to the log"):
        await history(other, served.store, served.rules, "run_0")
    await other.close()


async def test_following_goes_on_with_what_is_published(served):
    """First the history there is, then each further record as it comes, whether the store has met it or not."""
    run_id = run_ids(8)[1]
    told = follow(served.source, served.store, served.rules, run_id, wait=0.05)
    before = await history(served.source, served.store, served.rules, run_id)
    assert [await anext(told) for _ in before] == before
    await served.publish(*life("somebody_else"), correction(run_id, tokens=50))
    entry = await asyncio.wait_for(anext(told), 10)
    assert (entry.type, entry.outcome, entry.usage[0].sums[2]) == ("thread.run.usage_corrected", "applied", 48)
    await told.aclose()


async def test_a_run_yet_to_come_can_be_followed(world):
    """Of a run that nobody has published yet, the first record is told when it comes."""
    await world.bind(world.store)
    told = follow(world.source, world.store, world.rules, "later", wait=0.05)
    first = asyncio.create_task(anext(told))
    await asyncio.sleep(0)
    await world.publish(*life("later"))
    entries = [await asyncio.wait_for(first, 10), await anext(told), await anext(told)]
    assert [entry.changed["status"].after for entry in entries] == ["queued", "in_progress", "completed"]
    await told.aclose()
