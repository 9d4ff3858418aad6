"""Verify: equal where the store is right, and a named difference wherever it is not."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest
from msgspec.structs import replace
from replay_world import OLD_CODE, correction, flipped, life, run_ids

from runfold.fold.rules import Rules
from runfold.fold.state import decode_state, encode_state
from runfold.log.port import Message
from runfold.log.sqlite import SqliteSink, SqliteSource
from runfold.replay.refold import retry
from runfold.replay.verify import verify
from runfold.store.port import Note, StoreRefused, StoreUnreachable
from runfold_schemas import encode

RUNS = run_ids(8)


async def verified(world, **options):
    """The verification; whatever it says, its workspace is left empty."""
    try:
        return await verify(world.source, world.store, world.rules, workspace=world.workspace, **options)
    finally:
        assert not list(world.workspace.iterdir())


async def only_finding(world, *, table):
    """The one finding about a table."""
    found = await verified(world)
    assert not found.identical
    (finding,) = [finding for finding in found.findings if finding.table == table]
    return finding


async def test_a_store_that_is_right_is_identical(served):
    """Nothing differs, and the digests are the store's own."""
    found = await verified(served)
    assert found.identical
    assert not found.findings
    assert found.stored == found.recomputed == await served.digest()


async def test_the_answer_says_what_was_compared(served):
    """Positions are the store's, and every record below them was folded."""
    found = await verified(served)
    statuses = await served.store.partitions()
    assert found.positions == {status.partition: status.position for status in statuses}
    assert (found.records, found.superseded, found.unverifiable) == (27, [], 0)


async def test_an_empty_store_is_identical(world):
    """A store that was never served holds what nothing comes to."""
    assert (await verified(world)).identical


async def test_records_that_were_not_folded_yet_do_not_count(served):
    """Only what lies below the store's positions is compared."""
    await served.publish(*life("later"))
    found = await verified(served)
    assert found.identical
    assert found.records == 27


async def test_progress_ends_at_the_total(served):
    """Who watches sees records done rise to all of them."""
    told = []
    await verified(served, progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (27, 27)


async def test_a_field_of_a_run_is_named(served):
    """A changed number inside a run's row is found under its name in the state, with both values."""
    body = (await served.store.find_run(RUNS[1]))[0].body
    state = decode_state(body)
    state.run_ms += 1
    served.spoil("update run set body = ? where run_id = ?", encode_state(state), RUNS[1])
    finding = await only_finding(served, table="run")
    assert (finding.key, finding.field, finding.stored - finding.recomputed) == (RUNS[1], "run_ms", 1)


async def test_any_flipped_bit_of_a_row_is_found(served):
    """One bit of one row's body is enough, whichever it is, and the run is named."""
    body = (await served.store.find_run(RUNS[1]))[0].body
    for bit in range(3, len(body) * 8, 197):
        served.spoil("update run set body = ? where run_id = ?", flipped(body, bit), RUNS[1])
        assert (await only_finding(served, table="run")).key == RUNS[1]
    served.spoil("update run set body = ? where run_id = ?", body, RUNS[1])
    assert (await verified(served)).identical


@pytest.mark.parametrize("column", ["status", "created_at", "flags", "minute", "final_timestamp", "thread_id"])
async def test_a_changed_column_is_found(served, column):
    """What stands beside the body is compared too."""
    served.spoil(f"update run set {column} = {column} + 1 where run_id = ?", RUNS[1])
    finding = await only_finding(served, table="run")
    assert (finding.key, finding.field) == (RUNS[1], column)


@pytest.mark.parametrize("column", ["dimension", "partition"])
async def test_a_row_that_points_elsewhere_is_found(served, column):
    """A row whose key leads nowhere is a difference, and no crash."""
    served.spoil(f"update run set {column} = 77 where run_id = ?", RUNS[1])
    found = await verified(served)
    assert not found.identical
    assert found.findings


async def test_one_token_of_usage_is_found(served):
    """A usage row that is off by one is named with its bucket and column."""
    row = (await served.store.usage())[1]
    served.spoil("update usage set prompt_tokens = prompt_tokens + 1 where minute = ?", row.bucket.minute)
    finding = await only_finding(served, table="usage")
    assert (finding.field, finding.stored, finding.recomputed) == ("prompt_tokens", row.sums[2] + 1, row.sums[2])
    assert finding.key == (row.bucket.minute, *row.bucket.dimensions, row.bucket.status)


async def test_a_missing_run_is_found(served):
    """A run that the log has and the store has not is named."""
    served.spoil("delete from run where run_id = ?", RUNS[3])
    finding = await only_finding(served, table="run")
    assert (finding.key, finding.field, finding.stored) == (RUNS[3], None, None)


async def test_a_run_too_many_is_found(served):
    """A run that the log knows nothing of is named."""
    served.spoil(
        """insert into run select 1000, 'a ghost', partition, thread_id, status, created_at, flags, dimension, minute,
            final_timestamp, fold, body from run where run_id = ?""",
        RUNS[0],
    )
    finding = await only_finding(served, table="run")
    assert (finding.key, finding.field, finding.recomputed) == ("a ghost", None, None)


async def test_a_missing_letter_is_found(served):
    """A dead letter that is gone is named by its offset."""
    (letter,) = await served.store.letters()
    served.spoil("delete from letter")
    finding = await only_finding(served, table="letter")
    assert (finding.partition, finding.key) == (letter.partition, letter.offset)


async def test_damaged_headers_of_a_letter_are_found(served):
    """Bytes that are no headers are a difference, and no crash."""
    served.spoil("update letter set headers = x'c1'")
    assert (await only_finding(served, table="letter")).field == "headers"


async def test_a_changed_journal_row_is_found(served):
    """A journal row that is off by one token is named."""
    served.spoil("update journal set prompt_tokens = prompt_tokens + 1")
    assert (await only_finding(served, table="journal")).field == "prompt_tokens"


@pytest.mark.parametrize("partition", [0, 1])
async def test_a_position_moved_back_is_found(served, partition):
    """A position below what the rows hold would fold records twice: it is named."""
    served.spoil("update position set next = next - 1 where partition = ?", partition)
    finding = await only_finding(served, table="position")
    assert (finding.partition, finding.recomputed - finding.stored) == (partition, 1)


@pytest.mark.parametrize("partition", [0, 1])
async def test_a_position_moved_on_is_found(served, partition):
    """A position beyond what the rows hold would leave records out: it is named."""
    for run_id in run_ids(2):
        await served.publish(*life(f"{run_id}_later"), *life(f"{run_id}_still_later"))
    served.spoil("update position set next = next + 2 where partition = ?", partition)
    finding = await only_finding(served, table="position")
    assert (finding.partition, finding.stored - finding.recomputed) == (partition, 2)


async def test_a_position_beyond_the_log_is_refused(served):
    """A store that has folded more than the log holds is not of this log."""
    served.spoil("update position set next = next + 1000")
    with pytest.raises(StoreRefused, match="the log ends at"):
        await verified(served)


async def test_another_log_is_refused(served, tmp_path):
    """A store is not compared with a log that is not its own."""
    sink = SqliteSink(tmp_path / "other.db", partitions=2)
    await sink.start()
    await sink.close()
    other = SqliteSource(tmp_path / "other.db")
    await other.start()
    with pytest.raises(StoreRefused, match="belongs to the log"):
        await verify(other, served.store, served.rules, workspace=served.workspace)
    await other.close()


async def test_other_settings_are_refused(served):
    """With other settings of the fold every run would differ: the remedy is named instead."""
    with pytest.raises(StoreRefused, match="other settings"):
        await verify(served.source, served.store, Rules(user_key="who"), workspace=served.workspace)


async def test_a_workspace_that_cannot_be_used_is_named(served):
    """Where no shadow can be made, the folder is named."""
    with pytest.raises(StoreUnreachable, match="nowhere"):
        await verify(served.source, served.store, served.rules, workspace=served.folder / "nowhere")


async def test_runs_with_readable_letters_are_superseded(world):
    """What older code had to leave as letters is told apart, and is no difference."""
    await world.publish(*life(RUNS[0]), *life(RUNS[1]), *life(RUNS[2])[:2])
    await world.serve(decode=OLD_CODE)
    found = await verified(world)
    assert found.identical
    assert {run_id for _, run_id in found.superseded} == {RUNS[0], RUNS[1]}


async def test_a_fault_beside_superseded_runs_is_found(world):
    """That some runs are superseded hides nothing of the others."""
    await world.publish(*life(RUNS[0]), *life(RUNS[1])[:2])
    await world.serve(decode=OLD_CODE)
    world.spoil("update run set flags = 4 where run_id = ?", RUNS[1])
    found = await verified(world)
    assert [(finding.key, finding.field) for finding in found.findings] == [(RUNS[1], "flags")]
    assert len(found.superseded) == 1


async def test_a_letter_of_no_run_is_superseded_alone(world):
    """A letter without a run, that is rejected in other words today, is counted and is no difference."""
    await world.publish(*life(RUNS[0])[:2], Message(b"", encode(life(RUNS[0])[2])))
    await world.serve(decode=OLD_CODE)
    found = await verified(world)
    assert (found.identical, found.findings, found.superseded, found.superseded_letters) == (True, [], [], 1)


async def test_after_the_retry_nothing_is_superseded(world):
    """Once their letters were retried, the runs are compared like all others."""
    await world.publish(*life(RUNS[0]), *life(RUNS[1]))
    await world.serve(decode=OLD_CODE)
    for run_id in RUNS[:2]:
        await retry(world.source, world.store, world.rules, run_id)
    found = await verified(world)
    assert (found.identical, found.superseded) == (True, [])


async def test_a_record_that_was_set_aside_is_no_difference(world):
    """Verify heeds the notes, as a rebuild does."""
    await world.publish(*life(RUNS[0]))
    for partition in (0, 1):
        note = Note(partition=partition, offset=2, kind="set_aside", reason="it kills", noted_at=1)
        await world.store.add_note(note)
    await world.serve()
    found = await verified(world)
    assert (found.identical, found.superseded) == (True, [])


async def partly_lost(world):
    """A store whose log has lost its beginning in partition 0, in the middle of a run; returns its runs in order."""
    early, open_, late = run_ids(3, partition=0)
    await world.publish(Message(late.encode(), b"broken"), *life(early), *life(open_, tokens=7)[:2])
    await world.publish(life(open_, tokens=7)[2], *life(late), Message(open_.encode(), b"broken too"))
    await world.publish(correction(open_, tokens=9), correction(late, tokens=8), *life(run_ids(1, partition=1)[0]))
    await world.serve()
    world.cut_log("delete from partition_0 where offset < 5")
    return early, open_, late


async def test_runs_older_than_the_log_are_unverifiable(world):
    """Runs whose first records are gone are counted, and are no difference; all others are compared."""
    await partly_lost(world)
    found = await verified(world)
    assert not found.findings
    assert (found.identical, found.unverifiable, found.superseded) == (True, 2, [])


async def test_a_fault_beside_unverifiable_runs_is_found(world):
    """A run whose records the log still has is compared, though the log begins late."""
    *_, late = await partly_lost(world)
    world.spoil("update run set flags = 4 where run_id = ?", late)
    assert (await only_finding(world, table="run")).key == late


async def test_usage_is_compared_though_the_log_begins_late(world):
    """What unverifiable runs booked is taken as they say, and the sums have to agree."""
    await partly_lost(world)
    world.spoil("update usage set prompt_tokens = prompt_tokens + 1 where minute in (select minute from run)")
    assert (await only_finding(world, table="usage")).field == "prompt_tokens"


async def test_a_log_that_lost_everything_verifies_nothing(world):
    """Where no record is left, every run is unverifiable."""
    await world.publish(*life(RUNS[0]))
    await world.serve()
    later = life("later")
    partition = (await world.store.find_run(RUNS[0]))[0].partition
    await world.publish(*[replace(event, run_id=RUNS[0]) for event in later])
    world.cut_log(f"delete from partition_{partition} where offset < 4")
    found = await verified(world)
    assert (found.identical, found.unverifiable, found.records) == (True, 1, 0)


async def test_verify_works_beside_a_living_service(world):
    """While others publish and fold, a right store is found right, every time."""
    stop = asyncio.Event()

    async def live():
        for number in count():
            await world.publish(*life(f"run_{number}"), Message(b"run_0", b"broken"))
            await world.serve(most=2)
            if stop.is_set():
                break
        return number

    living = asyncio.create_task(live())
    found = [await verified(world) for _ in range(8)]
    stop.set()
    assert await living > 0
    assert all(each.identical for each in found)
    assert found[-1].records > found[0].records


async def test_an_error_is_told_as_itself(served):
    """What goes wrong inside reaches the caller as the one error that it is."""
    served.cut_log("alter table partition_1 rename to elsewhere")
    with pytest.raises(Exception, match="partition_1") as caught:
        await verified(served)
    assert not isinstance(caught.value, BaseExceptionGroup)
