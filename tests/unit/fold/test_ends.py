"""Ends, second ends, and corrections of what a run used."""

from __future__ import annotations

import pytest
from fold_stories import Story, usage

from runfold.fold.outcome import Flag
from runfold_schemas import RunCancelled, RunCompleted, RunCreated, RunFailed, RunInProgress, RunUsageCorrected


@pytest.fixture
def ended(story: Story) -> Story:
    story.tell(RunCreated, 0)
    story.tell(RunInProgress, 1)
    story.tell(RunCompleted, 5, usage=usage(10))
    return story


def test_the_first_end_in_the_log_stays(ended: Story) -> None:
    """A second, different end is late: it changes no status and no time, and the run is flagged."""
    before = ended.run
    assert ended.tell(RunFailed, 3, usage=usage(99), last_error={"code": "x"}) == "late"
    assert ended.run == before
    assert Flag.SECOND_END in ended.flags


def test_the_same_end_twice_is_not_reported(ended: Story) -> None:
    """A second end with the same status, such as one of two publishers tells, is late and not flagged."""
    assert ended.tell(RunCompleted, 6) == "late"
    assert Flag.SECOND_END not in ended.flags


@pytest.mark.parametrize("told", [{"usage": usage(11)}, {"last_error": {"code": "x"}}])
def test_a_second_end_that_contradicts_is_reported(ended: Story, told: dict[str, object]) -> None:
    """A second end of the same status that tells another usage or reason is late, and the run is flagged."""
    before = ended.run
    assert ended.tell(RunCompleted, 6, **told) == "late"
    assert ended.run == before
    assert Flag.SECOND_END in ended.flags


def test_a_second_end_fills_an_unknown_usage(story: Story) -> None:
    """Where the first end did not know the usage, a second one tells it."""
    story.tell(RunCreated, 0)
    story.tell(RunCancelled, 5)
    assert story.run["usage"] is None
    story.tell(RunCompleted, 6, usage=usage(7))
    assert (story.run["status"], story.run["usage"]["prompt_tokens"]) == ("cancelled", 7)


def test_a_second_end_does_not_change_a_known_usage(ended: Story) -> None:
    """What the first end told of usage stays."""
    ended.tell(RunCompleted, 6, usage=usage(99))
    assert ended.run["usage"]["prompt_tokens"] == 10


def test_an_unknown_usage_is_null_and_never_zero(story: Story) -> None:
    """A run that ended without usage shows null and is counted as one without usage."""
    story.tell(RunCreated, 0)
    story.tell(RunCompleted, 1)
    assert (story.run["usage"], story.sums["without_usage"]) == (None, 1)


def test_a_correction_outranks_an_end_before_it(ended: Story) -> None:
    """A correction after the end replaces its usage."""
    assert ended.tell(RunUsageCorrected, 9, usage=usage(77)) == "applied"
    assert (ended.run["usage"]["prompt_tokens"], ended.sums["prompt_tokens"]) == (77, 77)


def test_a_correction_outranks_an_end_after_it(story: Story) -> None:
    """A correction before the end shows at once, and the end's usage does not replace it."""
    story.tell(RunCreated, 0)
    story.tell(RunUsageCorrected, 1, usage=usage(77))
    assert story.run["usage"]["prompt_tokens"] == 77
    story.tell(RunCompleted, 2, usage=usage(1))
    assert (story.run["usage"]["prompt_tokens"], story.sums["prompt_tokens"]) == (77, 77)


def test_a_correction_fills_an_unknown_usage(story: Story) -> None:
    """A correction turns unknown usage into a known one."""
    story.tell(RunCreated, 0)
    story.tell(RunCompleted, 1)
    story.tell(RunUsageCorrected, 2, usage=usage(3))
    assert (story.sums["without_usage"], story.sums["prompt_tokens"]) == (0, 3)


def test_a_later_correction_replaces_an_earlier_one(ended: Story) -> None:
    """Corrections are absolute: the last one counts, nothing adds up."""
    ended.tell(RunUsageCorrected, 6, usage=usage(1))
    ended.tell(RunUsageCorrected, 7, usage=usage(2))
    assert ended.sums["prompt_tokens"] == 2


def test_a_correction_that_says_the_same_is_unchanged(ended: Story) -> None:
    """A correction with the usage that is shown already changes nothing."""
    assert ended.tell(RunUsageCorrected, 6, usage=usage(10)) == "unchanged"


def test_a_failed_run_can_have_used_tokens(story: Story) -> None:
    """The usage and the error of a failed run are shown."""
    story.tell(RunCreated, 0)
    story.tell(RunFailed, 1, usage=usage(5), last_error={"code": "server_error", "message": "x"})
    assert (story.run["usage"]["prompt_tokens"], story.run["last_error"]["code"]) == (5, "server_error")


def test_an_end_before_anything_else_ends_the_run(story: Story) -> None:
    """A run of which only the end is known has ended."""
    assert story.tell(RunCompleted, 5, usage=usage(3)) == "applied"
    assert story.run["status"] == "completed"
