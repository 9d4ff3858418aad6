"""The order of facts: a source's own within it, the log's between sources."""

from __future__ import annotations

from fold_stories import Story, usage

from runfold_schemas import (
    RunCancelling,
    RunCompleted,
    RunCreated,
    RunFailed,
    RunInProgress,
    RunModified,
    RunQueued,
    RunRequiresAction,
    RunUsageCorrected,
)

ACTION = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": []}}


def test_within_a_source_the_number_decides(story: Story) -> None:
    """A lower number that comes later stands before the higher one, whatever its time."""
    story.number(RunCreated, 1)
    story.number(RunInProgress, 3, at=3)
    story.number(RunQueued, 2, at=9)
    assert story.run["status"] == "in_progress"


def test_within_a_source_without_numbers_the_time_decides(story: Story) -> None:
    """Of a source's events without numbers, the one with the later time is the newer one."""
    story.tell(RunCreated, 0, source="a")
    story.tell(RunInProgress, 3, source="a")
    story.tell(RunQueued, 2, source="a")
    assert story.run["status"] == "in_progress"


def test_where_one_of_two_has_no_number_the_time_decides(story: Story) -> None:
    """A numbered and an unnumbered event of one source are ordered by their times."""
    story.number(RunCreated, 1)
    story.number(RunInProgress, 2, at=5)
    story.tell(RunQueued, 4, source="a")
    assert story.run["status"] == "in_progress"


def test_between_sources_the_log_decides(story: Story) -> None:
    """An event of another source stands where the log has it, even if its clock says earlier."""
    story.number(RunCreated, 1)
    story.number(RunInProgress, 2, at=5)
    assert story.number(RunQueued, 1, at=3, source="b") == "applied"
    assert story.run["status"] == "queued"


def test_without_a_source_the_log_decides(story: Story) -> None:
    """Events that name no source stand in the log's order, whatever their times."""
    story.tell(RunCreated, 0)
    story.tell(RunInProgress, 5)
    assert story.tell(RunQueued, 3) == "applied"
    assert story.run["status"] == "queued"


def test_equal_times_stand_in_the_logs_order(story: Story) -> None:
    """Two unnumbered events of one source at the same time stand in the log's order."""
    story.tell(RunCreated, 0, source="a")
    story.tell(RunInProgress, 2, source="a")
    story.tell(RunQueued, 2, source="a")
    assert story.run["status"] == "queued"


def test_a_late_event_stands_directly_before_its_sources_newer_one(story: Story) -> None:
    """Another source's fact in between keeps its place before both."""
    story.number(RunCreated, 1)
    story.number(RunCancelling, 1, source="b", at=1)
    assert story.number(RunQueued, 3, at=3) == "refused"
    assert story.number(RunInProgress, 2, at=2) == "refused"
    assert story.run["started_at"] is None


def test_a_late_event_can_change_what_the_run_shows(story: Story) -> None:
    """A late in_progress gives a run that has ended its started_at."""
    story.number(RunCreated, 1)
    story.number(RunCompleted, 3)
    assert story.number(RunInProgress, 2) == "applied"
    assert story.run["started_at"] == story.run["completed_at"] - 1


def test_a_late_cancelling_refuses_what_came_after_it(story: Story) -> None:
    """The table runs again over the timeline: what a late cancelling forbids is undone."""
    story.number(RunCreated, 1)
    story.number(RunInProgress, 2)
    story.number(RunRequiresAction, 4, required_action=ACTION)
    assert story.number(RunCancelling, 3) == "applied"
    assert (story.run["status"], story.run["required_action"]) == ("cancelling", None)


def test_a_late_end_ends_the_run_at_its_place(story: Story) -> None:
    """The first end in the log is the end and never stale; what its source told after it does not count."""
    story.number(RunCreated, 1)
    story.number(RunInProgress, 3)
    assert story.number(RunFailed, 2) == "applied"
    assert (story.run["status"], story.run["started_at"]) == ("failed", None)


def test_a_status_after_the_end_is_late(story: Story) -> None:
    """A newer status of a run that has ended changes nothing."""
    story.number(RunCreated, 1)
    story.number(RunCompleted, 2)
    assert story.number(RunInProgress, 3) == "late"
    assert story.run["status"] == "completed"


def test_a_late_events_outcome_is_the_tables_at_its_place(story: Story) -> None:
    """A second in_progress with a later number but an earlier time is unchanged, though the run has ended."""
    story.number(RunCreated, 1)
    story.number(RunInProgress, 2, at=2)
    story.number(RunCompleted, 4, at=4)
    assert story.number(RunInProgress, 3, at=2, id="again") == "unchanged"


def test_an_older_modified_is_stale(story: Story) -> None:
    """Metadata older than what the same source told is not shown."""
    story.number(RunCreated, 1)
    story.number(RunModified, 3, metadata={"a": "new"})
    assert story.number(RunModified, 2, metadata={"a": "old"}) == "stale"
    assert story.run["metadata"] == {"a": "new"}


def test_an_older_correction_is_stale(story: Story) -> None:
    """A correction older than another one of the same source is not shown."""
    story.number(RunCreated, 1)
    story.number(RunUsageCorrected, 3, usage=usage(3))
    assert story.number(RunUsageCorrected, 2, usage=usage(2)) == "stale"
    assert story.run["usage"]["prompt_tokens"] == 3


def test_a_modified_older_than_a_status_is_not_stale(story: Story) -> None:
    """Metadata is compared with metadata of its source, not with status."""
    story.number(RunCreated, 1)
    story.number(RunInProgress, 3)
    assert story.number(RunModified, 2, metadata={"a": "1"}) == "applied"


def test_a_modified_of_another_source_is_never_stale(story: Story) -> None:
    """Between sources the log decides: the later metadata in the log is shown."""
    story.number(RunCreated, 1)
    story.number(RunModified, 9, metadata={"a": "1"})
    assert story.number(RunModified, 1, source="b", at=0, metadata={"b": "1"}) == "applied"
    assert story.run["metadata"] == {"b": "1"}


def test_the_same_metadata_again_is_unchanged(story: Story) -> None:
    """A modified with the metadata that is shown already changes nothing."""
    story.tell(RunCreated, 0, metadata={"a": "1"})
    assert story.tell(RunModified, 1, metadata={"a": "1"}) == "unchanged"


def test_a_source_that_counts_anew_tells_newer_things(story: Story) -> None:
    """After counting anew a source's order starts afresh: its low numbers are newer than its high ones before."""
    story.number(RunCreated, 1)
    story.number(RunModified, 2, metadata={"a": "old"})
    story.number(RunModified, 1, id="anew", metadata={"a": "new"})
    assert story.run["metadata"] == {"a": "new"}
