"""Numbers that have not come, and sources that count anew."""

from __future__ import annotations

import pytest
from fold_stories import Partition, Story, event, reason

from runfold.fold.outcome import Flag
from runfold.fold.record import StoredRecord
from runfold_schemas import RunCompleted, RunCreated, RunInProgress, RunModified, RunQueued, encode


def test_successors_of_a_missing_event_are_applied_at_once(story: Story) -> None:
    """A run whose second event is missing shows its third."""
    story.number(RunCreated, 1)
    assert story.number(RunCompleted, 3) == "applied"
    assert story.run["status"] == "completed"


def test_a_number_that_has_not_come_is_missing(story: Story) -> None:
    """Numbers below the highest that were not seen are kept as ranges, and the run is flagged."""
    story.number(RunCreated, 1)
    story.number(RunInProgress, 4)
    story.number(RunQueued, 6)
    assert story.missing() == [(2, 3), (5, 5)]
    assert Flag.MISSING in story.flags


def test_numbers_before_the_first_seen_are_missing(story: Story) -> None:
    """A source counts from 1: what lies below its first event is missing."""
    story.number(RunInProgress, 3)
    assert story.missing() == [(1, 2)]


@pytest.mark.parametrize(("late", "left"), [(2, [(3, 4)]), (3, [(2, 2), (4, 4)]), (4, [(2, 3)])])
def test_a_late_arrival_narrows_its_gap(story: Story, late: int, left: list) -> None:
    """A late number is taken out of its range: at its begin, in its middle or at its end."""
    story.number(RunCreated, 1)
    story.number(RunInProgress, 5)
    story.number(RunQueued, late)
    assert story.missing() == left


def test_the_last_arrival_clears_the_flag(story: Story) -> None:
    """Where no number is missing any more, the run is not flagged."""
    story.number(RunCreated, 1)
    story.number(RunCompleted, 3)
    story.number(RunInProgress, 2)
    assert Flag.MISSING not in story.flags


def test_gaps_of_two_sources_are_their_own(story: Story) -> None:
    """What one source has told does not close another's gap."""
    story.number(RunCreated, 1)
    story.number(RunInProgress, 3)
    story.number(RunQueued, 2, source="b")
    assert (story.missing("a"), story.missing("b")) == ([(2, 2)], [(1, 1)])


def test_a_nameless_sequence_is_ignored(story: Story) -> None:
    """A number without a source opens no gap and gives no order."""
    story.tell(RunCreated, 0)
    story.tell(RunInProgress, 2, sequence=9)
    assert story.tell(RunQueued, 1, sequence=3) == "applied"
    assert (story.run["status"], story.flags) == ("queued", Flag(0))


def test_a_number_used_again_counts_anew(story: Story) -> None:
    """A number under another id means that its source began again: flagged, and its order starts afresh."""
    story.number(RunCreated, 1)
    story.number(RunInProgress, 2)
    assert story.number(RunQueued, 1, at=3) == "applied"
    assert Flag.RECOUNTED in story.flags
    assert story.run["status"] == "queued"


def test_counting_goes_on_from_the_number_that_began_anew(story: Story) -> None:
    """The last number becomes the one just seen: the next one opens no gap."""
    story.number(RunCreated, 1)
    story.number(RunInProgress, 2)
    story.number(RunInProgress, 2, id="anew", at=3)
    story.number(RunQueued, 3, at=4)
    assert story.missing() == []


def test_counting_anew_forgets_old_gaps(story: Story) -> None:
    """Gaps of before do not count once a source counts anew."""
    story.number(RunCreated, 1)
    story.number(RunInProgress, 3)
    story.number(RunQueued, 3, id="anew")
    assert (story.missing(), Flag.MISSING in story.flags) == ([], False)


def test_a_lower_number_counts_anew_once_more(story: Story) -> None:
    """Below the number at which a source counted anew nothing is missing: it counts anew again."""
    story.number(RunCreated, 1)
    story.number(RunInProgress, 2)
    story.number(RunQueued, 2, id="anew", at=3)
    assert story.number(RunInProgress, 1, id="again", at=4) == "applied"
    assert story.run["status"] == "in_progress"


@pytest.mark.parametrize(("sequence", "anew"), [(10_001, False), (10_002, True)])
def test_a_jump_over_ten_thousand_counts_anew(story: Story, sequence: int, anew: bool) -> None:
    """Ten thousand numbers further is a gap; more is another count."""
    story.number(RunCreated, 1)
    story.number(RunInProgress, sequence, at=2)
    assert (Flag.RECOUNTED in story.flags) is anew
    assert story.missing() == ([] if anew else [(2, 10_000)])


@pytest.mark.parametrize("sequence", [1, 2, 3, 20_000])
def test_a_duplicate_leaves_a_source_that_counts_anew_alone(story: Story, sequence: int) -> None:
    """Only applied events mark numbers of a source that has counted anew."""
    story.number(RunCreated, 1)
    story.number(RunInProgress, 2)
    story.number(RunQueued, 2, id="anew", at=3)
    story.number(RunCreated, sequence, at=1, id="RunCreated#1")
    assert story.missing() == []
    assert story.number(RunInProgress, 3, id="next", at=4) == "applied"
    assert story.missing() == []


def test_a_rejected_record_marks_its_number(partition: Partition) -> None:
    """A dead letter whose number can be read closes the gap, where its run has a row."""
    partition.feed(
        event(RunCreated, source="a", sequence=1),
        event(RunCompleted, 3, source="a", sequence=3),
        encode(event(RunInProgress, 2, source="a", sequence=2)).replace(b"in_progress", b"in_hospital"),
    )
    assert partition.state().flags & Flag.MISSING == 0


def test_a_rejected_record_marks_no_id(partition: Partition) -> None:
    """The event that a dead letter would have been can still come, under its own id."""
    wrong = StoredRecord(0, 0, b"run_1", encode(event(RunInProgress, 2, id="x")))
    changes = partition.feed(event(RunCreated), wrong, event(RunInProgress, 2, id="x"))
    assert changes.tally[0] == {"applied": 2, "rejected": 1}


def test_a_rejected_record_needs_no_row(partition: Partition) -> None:
    """A dead letter of a run that has no row makes none."""
    changes = partition.feed(b"", key=b"run_1")
    assert (changes.runs, changes.letters[0].run_id) == ([], "run_1")


def test_a_record_of_another_run_marks_no_number(partition: Partition) -> None:
    """A dead letter whose event names another run than its key marks no number of the key's run."""
    stranger = StoredRecord(0, 0, b"run_1", encode(event(RunInProgress, 2, run_id="run_2", source="a", sequence=2)))
    partition.feed(event(RunCreated, source="a", sequence=1), event(RunQueued, 3, source="a", sequence=3), stranger)
    assert partition.state().flags & Flag.MISSING


def test_a_second_created_marks_its_number(story: Story) -> None:
    """A second created that contradicts the first is rejected, and its number is seen."""
    story.number(RunCreated, 1)
    story.number(RunInProgress, 3)
    assert reason(story.number(RunCreated, 2, model="o3")) == "second_created"
    assert story.missing() == []


def test_a_stale_event_marks_its_number(story: Story) -> None:
    """An older modified is stale, and its number is seen."""
    story.number(RunCreated, 1)
    story.number(RunModified, 3, metadata={})
    assert story.number(RunModified, 2, metadata={"a": "1"}) == "stale"
    assert story.missing() == []
