"""A partition's fold: what it asks for, what it writes and what it keeps."""

from __future__ import annotations

import pytest
from fold_stories import Partition, event, usage
from short_cuts import needs_compiled

from runfold.fold.batch import PartitionFold
from runfold.fold.changes import Changes
from runfold.fold.record import StoredRecord, hash_of_record
from runfold.fold.state import decode_state
from runfold_schemas import RunCompleted, RunCreated, RunInProgress, RunQueued, encode


def test_it_asks_for_runs_it_does_not_have(partition: Partition) -> None:
    """``absent`` names each run of the records once that is not in hand, and no unreadable key."""
    partition.feed(event(RunCreated, run_id="run_1"))
    keys = (b"run_1", b"run_2", b"run_2", None, b"", b"\xff")
    assert partition.fold.absent([StoredRecord(0, 0, key, b"") for key in keys]) == ["run_2"]


def test_each_touched_run_is_written_once(partition: Partition) -> None:
    """However many events of a run a batch holds, its row is written once."""
    changes = partition.feed(event(RunCreated), event(RunInProgress, 1), event(RunQueued, 2))
    assert len(changes.runs) == 1


def test_columns_follow_from_the_body(partition: Partition) -> None:
    """A row's columns say what its body says."""
    partition.feed(event(RunCreated, metadata={"user_id": "u"}), event(RunCompleted, 61, usage=usage()))
    row, state = partition.rows["run_1"], partition.state()
    assert (row.run_id, row.thread_id, row.status, row.flags) == ("run_1", "thread_1", state.status, state.flags)
    assert (row.created_at, row.final_timestamp) == (state.created_at, state.final_timestamp)
    assert (row.minute, row.dimensions) == (state.booked.bucket.minute, state.dimensions)


def test_a_run_that_has_ended_is_let_go(partition: Partition) -> None:
    """After the commit, a run that has ended is not kept in hand."""
    partition.feed(event(RunCreated), event(RunCompleted, 1))
    assert partition.fold.absent([StoredRecord(0, 0, b"run_1", b"")]) == ["run_1"]


@needs_compiled
def test_what_is_folded_is_settled_before_more_is() -> None:
    """With the short cut a second batch before the first one is settled is refused: what ended would be begun anew."""
    fold, records = PartitionFold(0), [StoredRecord(0, 1_760_000_000_000, b"run_1", encode(event(RunCreated)))]
    fold.fold(records, next_position=1, expected=0, changes=Changes())
    with pytest.raises(RuntimeError, match="settled"):
        fold.fold(records, next_position=1, expected=0, changes=Changes())


def test_a_run_that_has_ended_can_be_taken_in_again(partition: Partition) -> None:
    """A late event of a run that was let go is folded into its row, under the row's handle."""
    partition.feed(event(RunCreated), event(RunCompleted, 1))
    changes = partition.feed(event(RunInProgress, 2))
    assert (changes.tally[0], changes.runs[0].handle) == ({"late": 1}, 1)


def test_no_more_runs_are_kept_than_allowed() -> None:
    """Over the most runs in hand, those that a batch did not touch are let go."""
    partition = Partition(most_runs=2)
    for number in range(4):
        partition.feed(event(RunCreated, run_id=f"run_{number}"))
    absent = partition.fold.absent([StoredRecord(0, 0, f"run_{number}".encode(), b"") for number in range(4)])
    assert sorted(absent) == ["run_0", "run_1"]


def test_a_row_keeps_its_first_and_last_offset(partition: Partition) -> None:
    """The range of a run's row goes from its first record to its last."""
    other = event(RunCreated, run_id="run_2")
    partition.feed(other, event(RunCreated), other, event(RunInProgress, 1), other)
    assert (partition.state().first_offset, partition.state().last_offset) == (1, 3)


def test_letters_do_not_widen_the_rows_own_range(partition: Partition) -> None:
    """A dead letter of a run keeps its own offset; the row's range is that of its events."""
    partition.feed(event(RunCreated), b"\xc1")
    assert partition.state().last_offset == 0


def test_the_position_moves_with_the_last_record(partition: Partition) -> None:
    """Changes say from where to where the position moves, and which record was the last."""
    changes = Changes()
    record = StoredRecord(7, 5, b"run_1", b"\xc1")
    PartitionFold(3).fold([record], next_position=9, expected=4, changes=changes)
    assert changes.positions == {3: (4, 9, 7, hash_of_record(record))}


def test_every_record_is_counted(partition: Partition) -> None:
    """The tally counts each record by its outcome."""
    changes = partition.feed(event(RunCreated), event(RunCreated), event(RunInProgress, 1), b"", event(RunQueued, 2))
    assert changes.tally == {0: {"applied": 3, "duplicate": 1, "rejected": 1}}


def test_changes_do_not_move_with_later_folding(partition: Partition) -> None:
    """Rows are bytes: folding the next batch, while one is being committed, leaves them alone."""
    row = partition.feed(event(RunCreated)).runs[0]
    body = bytes(row.body)
    partition.feed(event(RunInProgress, 1))
    assert row.body == body
    assert decode_state(row.body).status == 0


def test_a_watcher_is_told_of_every_record() -> None:
    """A watch sees record, event, run and verdict, also where there is no event."""
    seen = []
    partition = Partition(watch=lambda *told: seen.append(told))
    partition.feed(event(RunCreated), b"\xc1")
    (first, created, state, verdict), (_, nothing, _, rejection) = seen
    assert (first.offset, created.id, state.run_id, verdict) == (0, "RunCreated@0", "run_1", "applied")
    assert (nothing, rejection.reason) == (None, "malformed")


def test_an_ended_run_that_only_letters_came_for_is_let_go_too(partition: Partition) -> None:
    """A run that has ended, loaded for what turned out to be a dead letter, does not stay in hand."""
    partition.feed(event(RunCreated), event(RunCompleted, 1))
    assert partition.feed(b"\xc1").runs == []
    assert partition.fold.absent([StoredRecord(0, 0, b"run_1", b"")]) == ["run_1"]
