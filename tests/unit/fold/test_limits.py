"""How many events a run may have, and what is said when they become many."""

from __future__ import annotations

import pytest
from fold_stories import Story, reason, usage

from runfold.fold.outcome import Flag
from runfold.fold.rules import DEFAULT_RULES, Rules
from runfold_schemas import RunCompleted, RunCreated, RunFailed, RunInProgress, RunQueued, RunUsageCorrected

SMALL = Rules(most_events=4, most_corrections=2, alarm_events=2)


@pytest.fixture
def full() -> Story:
    """A run that has as many events as it may have."""
    story = Story(SMALL)
    story.number(RunCreated, 1)
    for sequence in (2, 3, 4):
        assert story.number(RunInProgress if sequence % 2 else RunQueued, sequence) in ("applied", "unchanged")
    return story


def test_one_event_too_many_is_rejected(full: Story) -> None:
    """Beyond the most events a run rejects."""
    assert reason(full.number(RunInProgress, 5)) == "too_many_events"


def test_an_event_too_many_marks_its_number(full: Story) -> None:
    """The number of a rejected event is seen: nothing goes missing."""
    full.number(RunInProgress, 5)
    full.number(RunCompleted, 6)
    assert full.missing() == []


def test_a_duplicate_is_no_event_too_many(full: Story) -> None:
    """The id is looked up first: what was folded before is a duplicate, also in a full run."""
    assert full.number(RunInProgress, 3) == "duplicate"


def test_a_second_created_is_compared_before_it_is_counted(full: Story) -> None:
    """A created that contradicts the first is rejected as that."""
    assert reason(full.number(RunCreated, 5, model="o3")) == "second_created"


def test_a_first_end_always_counts(full: Story) -> None:
    """However many events a run has, its end is applied."""
    assert full.number(RunCompleted, 5, usage=usage()) == "applied"
    assert full.run["status"] == "completed"


def test_a_second_end_does_not(full: Story) -> None:
    """A second end of a full run is rejected."""
    full.number(RunCompleted, 5)
    assert reason(full.number(RunFailed, 6)) == "too_many_events"


def test_corrections_have_a_bound_of_their_own(full: Story) -> None:
    """In a full run as many corrections are applied as their own bound says, and no more."""
    verdicts = [full.number(RunUsageCorrected, 5 + number, usage=usage(number)) for number in range(3)]
    assert verdicts[:2] == ["applied", "applied"]
    assert reason(verdicts[2]) == "too_many_events"


def test_an_end_takes_no_corrections_place(full: Story) -> None:
    """The end of a full run leaves its corrections their whole bound."""
    full.number(RunCompleted, 5)
    verdicts = [full.number(RunUsageCorrected, 6 + number, usage=usage(number)) for number in range(2)]
    assert verdicts == ["applied", "applied"]


def test_a_run_that_ended_early_has_the_same_bound_of_corrections() -> None:
    """Whether a run ended before it was full makes no difference to how many corrections it then takes."""
    story = Story(SMALL)
    story.tell(RunCreated, 0)
    story.tell(RunCompleted, 1)
    story.tell(RunQueued, 2)
    story.tell(RunQueued, 3)
    verdicts = [story.tell(RunUsageCorrected, 4 + number, usage=usage(number)) for number in range(3)]
    assert verdicts[:2] == ["applied", "applied"]
    assert reason(verdicts[2]) == "too_many_events"


def test_many_events_raise_an_alarm() -> None:
    """A run with as many events as raise the alarm is flagged, and folds on."""
    story = Story(Rules(alarm_events=3))
    story.tell(RunCreated, 0)
    story.tell(RunInProgress, 1)
    assert Flag.CROWDED not in story.flags
    assert story.tell(RunQueued, 2) == "applied"
    assert Flag.CROWDED in story.flags


def test_the_limits_are_ten_thousand_a_hundred_and_a_thousand() -> None:
    """Unless told otherwise: 10,000 events, 100 corrections beyond, alarm at 1,000."""
    rules = DEFAULT_RULES
    assert (rules.most_events, rules.most_corrections, rules.alarm_events) == (10_000, 100, 1_000)


@pytest.mark.parametrize("limits", [{"most_events": 0}, {"most_events": 50_000}, {"most_corrections": -1}])
def test_limits_that_a_row_has_no_room_for_are_refused(limits) -> None:
    """Limits beyond 50,000 events together, or without any, raise."""
    with pytest.raises(ValueError, match="most_events"):
        Rules(**{"most_corrections": 0, **limits} if limits == {"most_events": 0} else limits)


def test_other_settings_have_another_hash() -> None:
    """A store can tell that it was written under other settings."""
    assert Rules(user_key="owner").settings_hash != DEFAULT_RULES.settings_hash
    assert Rules().settings_hash == DEFAULT_RULES.settings_hash
