"""Buckets of usage: which one, with which sums, and how it moves."""

from __future__ import annotations

from typing import Any

import pytest
from fold_stories import START, Partition, Story, event, usage

from runfold.fold.rules import Rules
from runfold.fold.usage import SUMS, BucketKey, Dimensions
from runfold_schemas import (
    RunCompleted,
    RunCreated,
    RunFailed,
    RunInProgress,
    RunModified,
    RunQueued,
    RunStatus,
    RunUsageCorrected,
    TokenDetails,
    Usage,
)

METADATA = {"project_id": "proj_1", "user_id": "user_1", "api_key_id": "key_1"}
MINUTE = START // 60


def bucket(story: Story) -> BucketKey:
    assert story.state is not None and story.state.booked is not None
    return story.state.booked.bucket


def test_an_open_run_is_not_booked(story: Story) -> None:
    """Nothing is booked before a run has ended."""
    story.tell(RunCreated, 0)
    assert story.state.booked is None


@pytest.mark.parametrize(("at", "minute"), [(59.999, 0), (60, 1), (-0.001, -1)])
def test_the_bucket_is_the_minute_of_the_end(story: Story, at: float, minute: int) -> None:
    """A run is booked in the minute (UTC) in which it ended."""
    story.tell(RunCreated, -5)
    story.tell(RunCompleted, at)
    assert bucket(story).minute == MINUTE + minute


def test_the_bucket_names_status_and_dimensions(story: Story) -> None:
    """A bucket is of one final status, model, assistant, project, user and API key."""
    story.tell(RunCreated, 0, metadata=METADATA)
    story.tell(RunFailed, 1)
    dimensions = Dimensions("gpt-4o", "asst_1", "proj_1", "user_1", "key_1")
    assert bucket(story) == (MINUTE, dimensions, RunStatus.FAILED)


def test_all_tokens_are_summed(story: Story) -> None:
    """Cached and reasoning tokens stand beside the counts they are part of."""
    used = Usage(
        prompt_tokens=10,
        completion_tokens=5,
        total_tokens=15,
        prompt_token_details=TokenDetails(cached_tokens=4),
        completion_tokens_details=TokenDetails(reasoning_tokens=2),
    )
    story.tell(RunCreated, 0)
    story.tell(RunCompleted, 1, usage=used)
    assert [story.sums[name] for name in SUMS[:7]] == [1, 0, 10, 4, 5, 2, 15]


def test_metadata_keys_are_configurable() -> None:
    """Which metadata key names the project is a setting."""
    story = Story(Rules(project_key="team"))
    story.tell(RunCreated, 0, metadata={"team": "blue", "project_id": "proj_1"})
    story.tell(RunCompleted, 1)
    assert bucket(story).dimensions.project_id == "blue"


@pytest.mark.parametrize(("told", "named"), [(7, "7"), (True, ""), (1.5, ""), (None, ""), ([], ""), ("", "")])
def test_a_name_is_text_or_a_whole_number(story: Story, told: Any, named: str) -> None:
    """Whole numbers are spelled out; what is no name is unknown."""
    story.tell(RunCreated, 0, metadata={"project_id": told})
    story.tell(RunCompleted, 1)
    assert bucket(story).dimensions.project_id == named


def test_dimensions_are_those_known_at_the_end(story: Story) -> None:
    """A modified before the end changes them."""
    story.tell(RunCreated, 0, metadata={"project_id": "old"})
    story.tell(RunModified, 1, metadata={"project_id": "new"})
    story.tell(RunCompleted, 2)
    assert bucket(story).dimensions.project_id == "new"


def test_dimensions_are_frozen_at_the_end(story: Story) -> None:
    """A modified after the end is shown, and moves nothing."""
    story.tell(RunCreated, 0, metadata={"project_id": "old"})
    story.tell(RunCompleted, 1)
    story.tell(RunModified, 2, metadata={"project_id": "new"})
    assert (bucket(story).dimensions.project_id, story.run["metadata"]) == ("old", {"project_id": "new"})


def test_usage_without_created_is_booked_under_unknown(story: Story) -> None:
    """Until created comes, a run that has ended is booked under unknown dimensions."""
    story.tell(RunCompleted, 1, usage=usage())
    assert bucket(story).dimensions == Dimensions()


def test_a_created_after_the_end_moves_the_usage(story: Story) -> None:
    """A later created alone moves the dimensions of a run that has ended."""
    story.tell(RunCompleted, 1, usage=usage())
    story.tell(RunCreated, 0, metadata=METADATA)
    assert bucket(story).dimensions == Dimensions("gpt-4o", "asst_1", "proj_1", "user_1", "key_1")


def test_a_late_created_keeps_what_a_modified_had_told_by_the_end(story: Story) -> None:
    """Metadata that a modified told before the end counts, also where created comes after it."""
    story.tell(RunModified, 0, metadata={"project_id": "told"})
    story.tell(RunCompleted, 1)
    story.tell(RunCreated, -1, metadata=METADATA)
    assert bucket(story).dimensions == Dimensions("gpt-4o", "asst_1", "told")


def test_a_late_created_outranks_what_a_modified_told_after_the_end(story: Story) -> None:
    """Metadata that a modified told after the end is not that of the end."""
    story.tell(RunCompleted, 1)
    story.tell(RunModified, 2, metadata={"project_id": "later"})
    story.tell(RunCreated, 0, metadata=METADATA)
    assert bucket(story).dimensions.project_id == "proj_1"


def test_the_first_booking_is_no_journal_row(partition: Partition) -> None:
    """The run's row says when it became final; the journal holds only what changed later."""
    changes = partition.feed(event(RunCreated), event(RunCompleted, 1, usage=usage()))
    assert changes.journal == []
    assert list(changes.usage.values()) == [[1, 0, 10, 0, 5, 0, 15, 0, 0, 0]]


def test_a_correction_is_booked_as_a_difference(partition: Partition) -> None:
    """A correction moves the run's own bucket by new minus old, and is written to the journal with its place."""
    partition.feed(event(RunCreated), event(RunCompleted, 1, usage=usage(10)))
    changes = partition.feed(event(RunUsageCorrected, 300, usage=usage(7)))
    entry = changes.journal[0]
    assert (entry.offset, entry.bucket.minute) == (2, MINUTE)
    assert entry.sums == (0, 0, -3, 0, 0, 0, -3, 0, 0, 0)
    assert changes.usage == {entry.bucket: list(entry.sums)}


def test_a_late_created_is_booked_as_a_move(partition: Partition) -> None:
    """What a run had added is taken out of one bucket and put into another, in two journal rows."""
    partition.feed(event(RunCompleted, 1, usage=usage()))
    changes = partition.feed(event(RunCreated))
    assert [entry.sums[0] for entry in changes.journal] == [-1, 1]
    assert [entry.bucket.dimensions.model for entry in changes.journal] == ["", "gpt-4o"]


def test_what_is_booked_back_leaves_zeros(partition: Partition) -> None:
    """A bucket that a run has left holds zeros."""
    partition.feed(event(RunCompleted, 1, usage=usage()))
    partition.feed(event(RunCreated))
    assert sorted(sums[0] for sums in partition.usage.values()) == [0, 1]


def test_a_run_remembers_where_it_became_final(partition: Partition) -> None:
    """The offset and record timestamp of the first end stay, whatever comes later."""
    end = event(RunCompleted, 1, usage=usage())
    partition.feed(event(RunCreated), end)
    partition.feed(event(RunUsageCorrected, 9, usage=usage(1)))
    state = partition.state()
    assert (state.final_offset, state.final_timestamp) == (1, end.occurred_at + 5)


def times(story: Story) -> tuple[int, int, int]:
    sums = story.sums
    return sums["timed_runs"], sums["queue_ms"], sums["run_ms"]


def test_time_in_queued_and_in_progress_is_summed(story: Story) -> None:
    """Times are summed along the timeline; what lies between requires_action and queued is neither."""
    story.tell(RunCreated, 0)
    story.tell(RunInProgress, 2)
    story.tell(RunQueued, 5)
    story.tell(RunInProgress, 9)
    story.tell(RunCompleted, 10)
    assert times(story) == (1, 6000, 4000)


def test_negative_times_count_as_zero(story: Story) -> None:
    """Where another machine's clock goes back, the time spent is 0."""
    story.tell(RunCreated, 5)
    story.tell(RunInProgress, 3)
    story.tell(RunCompleted, 4)
    assert times(story) == (1, 0, 1000)


def test_a_restart_does_not_shorten_the_time_spent(story: Story) -> None:
    """In_progress again with a later time moves started_at, not the time since when the run is in progress."""
    story.tell(RunCreated, 0)
    story.tell(RunInProgress, 1)
    story.tell(RunInProgress, 3)
    story.tell(RunCompleted, 6)
    assert times(story) == (1, 1000, 5000)


def test_times_are_unknown_where_in_progress_never_came(story: Story) -> None:
    """A run that was never seen in progress is not timed."""
    story.tell(RunCreated, 0)
    story.tell(RunCompleted, 4)
    assert times(story) == (0, 0, 0)


def test_times_are_unknown_while_a_number_is_missing(story: Story) -> None:
    """A missing event makes times unknown; when it comes, they are booked."""
    story.number(RunCreated, 1)
    story.number(RunInProgress, 2)
    story.number(RunCompleted, 4)
    assert times(story) == (0, 0, 0)
    story.number(RunQueued, 3)
    assert times(story) == (1, 2000, 1000)


def test_times_are_unknown_while_created_is_missing(story: Story) -> None:
    """Without created nobody knows how long a run was queued."""
    story.tell(RunInProgress, 2)
    story.tell(RunCompleted, 4)
    assert times(story) == (0, 0, 0)
    story.tell(RunCreated, 0)
    assert times(story) == (1, 2000, 2000)


def test_times_are_unknown_where_one_is_approximate(story: Story) -> None:
    """A status whose time is a guess leaves the durations unknown."""
    story.tell(RunCreated, 0)
    story.tell(RunInProgress, 2, approximate=True)
    story.tell(RunCompleted, 4)
    assert times(story) == (0, 0, 0)
