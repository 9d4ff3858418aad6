"""Retry: a run refolded from its own range, and written through the store's door."""

from __future__ import annotations

import pytest
from fold_stories import usage
from replay_world import NOW, OLD_CODE, correction, flipped, life, run_ids

from runfold.fold.changes import Changes, PositionChange
from runfold.fold.rules import Rules
from runfold.log.port import Message
from runfold.log.sqlite import SqliteSink, SqliteSource
from runfold.replay.refold import ATTEMPTS, carry_out, outdated, plan_retry, readable, refold, retry, run_to_retry
from runfold.replay.run_range import RefoldRefused, find_ranges
from runfold.store.port import Note, StalePosition, StoreRefused
from runfold.store.sqlite import SqliteStore
from runfold_schemas import RunUsageCorrected, encode

RUNS = run_ids(3, partition=0)


class RestlessStore(SqliteStore):
    """Refuses the first ``refusals`` writes through its door, as when the owner was quicker each time."""

    refusals = 0
    tries = 0

    async def write_through_door(self, change):
        self.tries += 1
        if self.tries <= self.refusals:
            raise StalePosition("somebody was quicker")
        await super().write_through_door(change)


async def restless(world, refusals):
    store = RestlessStore(world.kept)
    store.refusals = refusals
    await store.open()
    return store


async def test_a_refold_gives_the_row_that_serving_gave(served):
    """A run's own records, folded alone, give its row to the byte."""
    for run_id in run_ids(8):
        (part,) = await find_ranges(served.source, served.store, run_id)
        changes = await refold(served.source, part, rules=served.rules)
        assert [row.body for row in changes.runs] == [part.row.body]


async def test_a_refold_gives_letters_journal_and_usage(served):
    """A refold gives the run's letters and journal entries again, and its whole usage."""
    corrected = run_ids(8)[2]
    (part,) = await find_ranges(served.source, served.store, corrected)
    changes = await refold(served.source, part, rules=served.rules)
    assert [entry.run_id for entry in changes.journal] == [corrected]
    assert [sums[2] for sums in changes.usage.values()] == [70]


async def test_retrying_an_unchanged_run_changes_nothing(served):
    """With the same code a retry plans no change, and leaves the digest as it was."""
    before = await served.digest()
    for run_id in run_ids(8):
        plan = await retry(served.source, served.store, served.rules, run_id)
        assert plan.changes_nothing
    assert await served.digest() == before


async def test_retry_is_what_a_rebuild_gives(world):
    """A run whose letter today's code reads is, once retried, as a rebuild makes it: row, letters and usage."""
    await world.publish(*life(RUNS[0]), *life(RUNS[1]), correction(RUNS[0], tokens=3))
    await world.serve(decode=OLD_CODE)
    for letter in await world.store.letters():
        await retry(world.source, world.store, world.rules, letter.run_id)
    assert await world.digest() == await world.rebuilt()


async def test_a_plan_says_what_it_would_do(world):
    """A plan shows the Run, the letters and the usage before and after, and writes nothing."""
    await world.publish(*life(RUNS[0], tokens=8))
    await world.serve(decode=OLD_CODE)
    before = await world.digest()
    plan = await plan_retry(world.source, world.store, world.rules, run_id=RUNS[0])
    (part,) = plan.parts
    assert (part.before["status"], part.after["status"]) == ("in_progress", "completed")
    assert (len(part.letters_before), len(part.letters_after)) == (1, 0)
    assert [sums[:3] for sums in part.usage.values()] == [(1, 0, 8)]
    assert not plan.changes_nothing
    assert await world.digest() == before


async def test_a_run_of_letters_alone_becomes_a_run(world):
    """Where nothing but letters was there, a retry makes the row."""
    await world.publish(life(RUNS[0])[2])
    await world.serve(decode=OLD_CODE)
    plan = await retry(world.source, world.store, world.rules, RUNS[0])
    assert plan.parts[0].before is None
    assert await world.digest() == await world.rebuilt()


async def test_code_that_reads_less_takes_the_row_away(world):
    """A retry with code that reads nothing of a run leaves letters alone: it is the same refold."""
    await world.publish(life(RUNS[0])[2])
    await world.serve()
    plan = await retry(world.source, world.store, world.rules, RUNS[0], decode=OLD_CODE)
    assert plan.parts[0].after is None
    assert not await world.store.find_run(RUNS[0])
    assert await world.store.usage() == []


async def test_only_records_below_the_position_are_folded(world):
    """Records that the service has not folded yet are left to it."""
    await world.publish(life(RUNS[0])[0], life(RUNS[0])[2])
    await world.serve(decode=OLD_CODE)
    await world.publish(life(RUNS[0])[1], correction(RUNS[0], tokens=5))
    await retry(world.source, world.store, world.rules, RUNS[0])
    await world.serve()
    assert await world.digest() == await world.rebuilt()


async def test_a_split_run_is_refolded_in_each_partition(world):
    """A run whose records lie on two partitions has a plan for each of them."""
    here, there = life(RUNS[0])[:2], life(RUNS[0])[2]
    await world.publish(*here)
    world.cut_log("insert into partition_1 values (0, ?, ?, ?, null)", NOW, there.run_id.encode(), encode(there))
    await world.serve(decode=OLD_CODE)
    plan = await retry(world.source, world.store, world.rules, RUNS[0])
    assert [part.partition for part in plan.parts] == [0, 1]
    assert await world.digest() == await world.rebuilt()


async def test_a_record_that_was_set_aside_stays_aside(world):
    """A refold heeds the note: the record is not read, though it could be."""
    await world.publish(*life(RUNS[0]))
    await world.serve(decode=OLD_CODE)
    await world.store.add_note(Note(partition=0, offset=2, kind="set_aside", reason="it kills", noted_at=1))
    plan = await retry(world.source, world.store, world.rules, RUNS[0])
    assert [(letter.reason, letter.detail) for letter in plan.parts[0].letters_after] == [("set_aside", "it kills")]
    assert await world.digest() == await world.rebuilt()


async def test_the_owner_meets_stale_position_after_a_retry(world):
    """Who folds the partition cannot go on with what it had in hand."""
    await world.publish(*life(RUNS[0]))
    await world.serve()
    await retry(world.source, world.store, world.rules, RUNS[0])
    move = Changes(positions={0: PositionChange(3, 4, 3, b"")})
    with pytest.raises(StalePosition):
        await world.store.apply(move, world.leases)


async def test_a_plan_that_was_overtaken_is_not_carried_out(world):
    """A run that changed since it was planned is left as it is."""
    await world.publish(*life(RUNS[0])[:2])
    await world.serve()
    plan = await plan_retry(world.source, world.store, world.rules, run_id=RUNS[0])
    await world.publish(life(RUNS[0])[2])
    await world.serve()
    with pytest.raises(StalePosition):
        await carry_out(world.store, plan)


async def test_retry_plans_again_when_it_was_overtaken(served):
    """A writer that was quicker a few times does not make a retry fail."""
    store = await restless(served, ATTEMPTS - 1)
    await retry(served.source, store, served.rules, run_ids(1)[0])
    await store.close()
    assert store.tries == ATTEMPTS


async def test_retry_gives_up_at_last(served):
    """A run that changes before every write is given up after a bounded number of tries."""
    store = await restless(served, 10 * ATTEMPTS)
    with pytest.raises(StalePosition):
        await retry(served.source, store, served.rules, run_ids(1)[0])
    await store.close()
    assert store.tries == ATTEMPTS


async def test_a_fresh_process_may_retry(served):
    """A store that was only opened is tied to its log by the retry itself."""
    store = SqliteStore(served.kept)
    await store.open()
    plan = await retry(served.source, store, served.rules, run_ids(1)[0])
    await store.close()
    assert plan.changes_nothing


async def test_a_letter_without_a_run_cannot_be_retried(world):
    """A letter whose key names no run says so, and what else can be done."""
    await world.publish(Message(b"\xff", b"broken"))
    await world.serve()
    (letter,) = await world.store.letters()
    with pytest.raises(RefoldRefused, match="belongs to no run"):
        run_to_retry(letter)


async def test_a_letter_is_retried_by_its_run(served):
    """A letter whose key names a run leads to that run."""
    (letter,) = await served.store.letters()
    assert run_to_retry(letter) == run_ids(8)[4]


async def test_an_unknown_run_is_refused(served):
    """A run of which the store has nothing cannot be retried."""
    with pytest.raises(RefoldRefused, match="neither a row nor a dead letter"):
        await plan_retry(served.source, served.store, served.rules, run_id="nobody")


@pytest.mark.parametrize("cut", ["offset = 0", "offset >= 2"])
async def test_a_range_that_the_log_lacks_is_refused(world, cut):
    """Where a part of the run's range is gone, at either end, nothing is folded, and the range is named."""
    await world.publish(*life(RUNS[0]))
    await world.serve()
    world.cut_log(f"delete from partition_0 where {cut}")
    with pytest.raises(RefoldRefused, match="offsets 0 to 2 of partition 0"):
        await plan_retry(world.source, world.store, world.rules, run_id=RUNS[0])


async def test_a_damaged_row_is_refused(served):
    """What a damaged row had added to usage is unknown, so it is not refolded; the remedy is named."""
    body = (await served.store.find_run("run_0"))[0].body
    served.spoil("update run set body = ? where run_id = 'run_0'", body[:40])
    with pytest.raises(RefoldRefused, match="replay rebuild"):
        await plan_retry(served.source, served.store, served.rules, run_id="run_0")


async def test_no_bit_of_a_row_makes_it_raise_anything_else(world):
    """Whatever one flipped bit does to a row, planning gives a plan or is refused."""
    await world.publish(*life(RUNS[0]))
    await world.serve()
    body = (await world.store.find_run(RUNS[0]))[0].body
    for bit in range(0, len(body) * 8, 7):
        world.spoil("update run set body = ?", flipped(body, bit))
        try:
            await plan_retry(world.source, world.store, world.rules, run_id=RUNS[0])
        except RefoldRefused:
            continue


async def test_another_log_is_refused(served, tmp_path):
    """A store is not refolded from a log that is not its own."""
    sink = SqliteSink(tmp_path / "other.db", partitions=2)
    await sink.start()
    await sink.close()
    other = SqliteSource(tmp_path / "other.db")
    await other.start()
    with pytest.raises(StoreRefused, match="belongs to the log"):
        await plan_retry(other, served.store, served.rules, run_id="run_0")
    await other.close()


async def test_other_settings_are_refused(served):
    """Code with other settings of the fold would write other rows, and may not."""
    with pytest.raises(StoreRefused, match="other settings"):
        await plan_retry(served.source, served.store, Rules(project_key="team"), run_id="run_0")


async def test_readable_letters_are_those_that_could_be_events_today(world):
    """A type that was learned makes its letters readable; broken bytes stay broken."""
    await world.publish(*life(RUNS[0]), Message(RUNS[0].encode(), b"broken"))
    await world.serve(decode=OLD_CODE)
    letters = await world.store.letters()
    assert [letter.reason for letter in readable(letters)] == ["unknown_type"]
    assert readable(letters, decode=OLD_CODE) == []


async def test_letters_that_are_rejected_in_other_words_are_outdated(world):
    """A letter whose reason is another one today is outdated, though nothing more can be read of it."""
    told = life(RUNS[0])
    await world.publish(*told[:2], Message(b"another", encode(told[2])), Message(b"another", b"broken"))
    await world.serve(decode=OLD_CODE)
    letters = await world.store.letters()
    assert [letter.reason for letter in outdated(letters)] == ["unknown_type"]
    assert readable(letters) == outdated(letters, decode=OLD_CODE) == []


async def test_a_contradicting_created_is_not_readable(world):
    """A letter that was decided, not misread, is none that newer code could read."""
    first, *_ = life(RUNS[0])
    second = type(first)(
        run_id=first.run_id, thread_id="another", id="second", occurred_at=first.occurred_at, model="o3"
    )
    await world.publish(first, second)
    await world.serve()
    letters = await world.store.letters()
    assert [letter.reason for letter in letters] == ["second_created"]
    assert readable(letters) == []


async def test_a_correction_before_the_end_is_booked_once(world):
    """A retry that finds the end books the corrected usage, not both."""
    told = life(RUNS[0])
    early = RunUsageCorrected(
        run_id=RUNS[0], thread_id=told[0].thread_id, id="c", occurred_at=told[0].occurred_at, usage=usage(99, 1)
    )
    await world.publish(told[0], early, *told[1:])
    await world.serve(decode=OLD_CODE)
    await retry(world.source, world.store, world.rules, RUNS[0])
    assert [row.sums[2] for row in await world.store.usage()] == [99]
