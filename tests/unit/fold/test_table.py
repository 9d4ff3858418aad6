"""The transition table, cell by cell, told here once more in words."""

from __future__ import annotations

from itertools import product

import pytest
from fold_stories import Story

from runfold_schemas import (
    RunCancelled,
    RunCancelling,
    RunCompleted,
    RunCreated,
    RunExpired,
    RunFailed,
    RunIncomplete,
    RunInProgress,
    RunModified,
    RunQueued,
    RunRequiresAction,
)

KINDS = {
    "queued": RunQueued,
    "in_progress": RunInProgress,
    "requires_action": RunRequiresAction,
    "cancelling": RunCancelling,
    "cancelled": RunCancelled,
    "failed": RunFailed,
    "completed": RunCompleted,
    "incomplete": RunIncomplete,
    "expired": RunExpired,
}
ENDS = ("cancelled", "failed", "completed", "incomplete", "expired")

# from: outcomes of queued, in_progress (later), requires_action (another), cancelling, any end
TABLE = {
    "queued": ("unchanged", "applied", "applied", "applied", "applied"),
    "in_progress": ("applied", "applied", "applied", "applied", "applied"),
    "requires_action": ("applied", "applied", "applied", "applied", "applied"),
    "cancelling": ("refused", "refused", "refused", "unchanged", "applied"),
    **dict.fromkeys(ENDS, ("late",) * 5),
}
CELLS = list(product(KINDS, KINDS))


def action(number: int) -> dict[str, object]:
    calls = [{"id": f"call_{number}", "type": "function"}]
    return {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": calls}}


def tell(story: Story, status: str, at: int) -> str:
    fields = {"required_action": action(at)} if status == "requires_action" else {}
    return story.tell(KINDS[status], at, **fields)


def run_in(status: str) -> Story:
    story = Story()
    story.tell(RunCreated, 0)
    if status != "queued":
        tell(story, status, 1)
    assert story.run["status"] == status
    return story


@pytest.mark.parametrize(("start", "to"), CELLS)
def test_each_cell_has_its_outcome(start: str, to: str) -> None:
    """A status event of another source, told last, has the outcome that the table gives it."""
    assert tell(run_in(start), to, 2) == TABLE[start][min(list(KINDS).index(to), 4)]


@pytest.mark.parametrize(("start", "to"), CELLS)
def test_a_run_goes_where_it_is_let(start: str, to: str) -> None:
    """A refused or late event leaves the status; any other leads to it."""
    story = run_in(start)
    outcome = tell(story, to, 2)
    assert story.run["status"] == (start if outcome in ("refused", "late") else to)


@pytest.mark.parametrize(("start", "to"), CELLS)
def test_a_required_action_shows_exactly_where_one_is_required(start: str, to: str) -> None:
    """``required_action`` is non-null exactly in requires_action."""
    story = run_in(start)
    tell(story, to, 2)
    assert (story.run["required_action"] is not None) == (story.run["status"] == "requires_action")


@pytest.mark.parametrize("status", KINDS)
def test_metadata_can_be_modified_in_any_state(status: str) -> None:
    """``modified`` is applied whatever the status, and replaces the metadata whole."""
    story = run_in(status)
    assert story.tell(RunModified, 2, metadata={"b": "2"}) == "applied"
    assert story.run["metadata"] == {"b": "2"}


@pytest.mark.parametrize(
    ("status", "field"),
    [
        ("cancelled", "cancelled_at"),
        ("failed", "failed_at"),
        ("completed", "completed_at"),
        ("incomplete", "completed_at"),
        ("expired", None),
    ],
)
def test_an_end_sets_its_own_time_alone(status: str, field: str | None) -> None:
    """Each end sets its time, ``incomplete`` that of completion, ``expired`` none."""
    run = run_in(status).run
    set_times = {name for name in ("cancelled_at", "failed_at", "completed_at") if run[name] is not None}
    assert set_times == ({field} if field else set())


@pytest.mark.parametrize("status", KINDS)
def test_only_an_open_run_expires(status: str) -> None:
    """``expires_at`` is shown until the run has ended, then null."""
    story = Story()
    story.tell(RunCreated, 0, expires_at=1_760_000_640)
    if status != "queued":
        tell(story, status, 1)
    assert story.run["expires_at"] == (None if status in ENDS else 1_760_000_640)


def test_a_second_start_moves_started_at() -> None:
    """``started_at`` is set whenever the run enters in_progress, also after tool outputs."""
    story = run_in("in_progress")
    tell(story, "requires_action", 5)
    tell(story, "in_progress", 9)
    assert story.run["started_at"] == story.run["created_at"] + 9


def test_in_progress_again_later_moves_started_at() -> None:
    """``in_progress`` with a later time restarts a run that is in progress."""
    story = run_in("in_progress")
    assert tell(story, "in_progress", 3) == "applied"
    assert story.run["started_at"] == story.run["created_at"] + 3


def test_in_progress_again_earlier_changes_nothing() -> None:
    """``in_progress`` of another source with an earlier time leaves the run unchanged."""
    story = run_in("in_progress")
    assert story.tell(RunInProgress, 0.5) == "unchanged"
    assert story.run["started_at"] == story.run["created_at"] + 1


def test_the_same_action_again_changes_nothing() -> None:
    """``requires_action`` with the action that is shown already is unchanged."""
    story = run_in("requires_action")
    assert story.tell(RunRequiresAction, 2, required_action=action(1)) == "unchanged"


def test_another_action_replaces_the_first() -> None:
    """``requires_action`` with another action replaces the one shown."""
    story = run_in("requires_action")
    tell(story, "requires_action", 2)
    assert story.run["required_action"] == action(2)
