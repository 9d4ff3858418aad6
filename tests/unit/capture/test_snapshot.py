"""What one Run body proves, and what is not made up where it is silent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from runfold.capture import Snapshot, snapshot
from runfold_schemas import (
    Event,
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
    TokenDetails,
    Usage,
)

BodyWith = Callable[..., dict[str, Any]]
CREATED, STARTED, ENDED = 1_761_861_679_000, 1_761_861_680_000, 1_761_861_696_000
WAITING = {"status": "queued", "completed_at": None, "usage": None}
FRESH = WAITING | {"started_at": None}


def only(told: Snapshot, kind: type[Event]) -> Any:
    (event,) = [event for event in told.events if type(event) is kind]
    return event


def test_completed_body_proves_the_whole_life(body: BodyWith) -> None:
    """One body of a completed run proves that it was created, started and completed, each at its own time."""
    told = snapshot(body())
    assert [(type(event), event.occurred_at) for event in told.events] == [
        (RunCreated, CREATED),
        (RunInProgress, STARTED),
        (RunModified, ENDED),
        (RunCompleted, ENDED),
    ]


def test_nothing_is_numbered(body: BodyWith) -> None:
    """Captured events carry the source `capture` and no sequence."""
    assert {(event.source, event.sequence) for event in snapshot(body()).events} == {("capture", None)}


def test_same_body_gives_the_same_ids(body: BodyWith) -> None:
    """Capturing a body twice gives equal events, so that the second time changes nothing."""
    assert snapshot(body()) == snapshot(body())


def test_field_order_does_not_matter(body: BodyWith) -> None:
    """A body whose fields come in another order gives the same ids."""
    turned = dict(reversed(body(metadata={"a": "1", "b": "2"}).items()))
    turned["metadata"] = {"b": "2", "a": "1"}
    ids = [event.id for event in snapshot(turned).events]
    assert ids == [event.id for event in snapshot(body(metadata={"a": "1", "b": "2"})).events]


def test_bodies_of_one_run_agree_on_created(body: BodyWith) -> None:
    """The id of `created` leaves out what changes in a run's life."""
    early = only(snapshot(body(**FRESH, expires_at=CREATED // 1000 + 600)), RunCreated)
    assert early.id == only(snapshot(body(metadata={"a": "b"})), RunCreated).id


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"usage": {"prompt_tokens": 10, "completion_tokens": 6, "total_tokens": 16}}, RunCompleted),
        ({"completed_at": ENDED // 1000 + 1}, RunCompleted),
        ({"metadata": {"a": "b"}}, RunModified),
        ({"started_at": STARTED // 1000 + 1}, RunInProgress),
    ],
)
def test_other_content_has_another_id(body: BodyWith, changes: dict[str, Any], kind: type[Event]) -> None:
    """A fact that says something else is another fact."""
    assert only(snapshot(body()), kind).id != only(snapshot(body(**changes)), kind).id


@pytest.mark.parametrize(
    ("changes", "kind", "approximate"),
    [
        (FRESH, RunQueued, False),
        (WAITING, RunQueued, True),
        (FRESH | {"status": "in_progress"}, RunInProgress, True),
        (WAITING | {"status": "in_progress"}, RunInProgress, False),
        (WAITING | {"status": "cancelling"}, RunCancelling, True),
        (
            WAITING | {"status": "requires_action", "required_action": {"type": "submit_tool_outputs"}},
            RunRequiresAction,
            True,
        ),
        ({"status": "completed"}, RunCompleted, False),
        ({"status": "completed", "completed_at": None}, RunCompleted, True),
        ({"status": "incomplete"}, RunIncomplete, False),
        ({"status": "failed", "completed_at": None, "failed_at": ENDED // 1000}, RunFailed, False),
        ({"status": "failed", "completed_at": None}, RunFailed, True),
        ({"status": "expired", "completed_at": None}, RunExpired, True),
    ],
)
def test_only_times_of_the_body_are_exact(
    body: BodyWith, changes: dict[str, Any], kind: type[Event], approximate: bool
) -> None:
    """A status has an exact time where the body has a field for it, and is marked approximate where it has none."""
    event = only(snapshot(body(**changes)), kind)
    assert event.approximate is approximate
    assert event.occurred_at in {CREATED, STARTED, ENDED}


def test_status_decides_not_the_times(body: BodyWith) -> None:
    """A body that is queued is queued, whatever else it says."""
    told = snapshot(body(status="queued"))
    assert isinstance(told.events[-1], RunQueued)
    assert told.events[-1].approximate


@pytest.mark.parametrize("scale", [1000, 1000.0, 1.0])
def test_milliseconds_are_recognised(body: BodyWith, scale: float) -> None:
    """Servers that write milliseconds, or floats, where seconds belong are read as they mean it."""
    times = {"created_at": CREATED, "started_at": STARTED, "completed_at": ENDED, "expires_at": ENDED}
    told = snapshot(body(**{name: time // 1000 * scale for name, time in times.items()}))
    assert told.complaints == []
    assert [event.occurred_at for event in told.events] == [CREATED, STARTED, ENDED, ENDED]
    assert told.events[0].expires_at == ENDED // 1000


@pytest.mark.parametrize("time", ["1761861680", True, -5, 12, 1.7e18, float("nan"), []])
def test_what_is_no_time_is_told(body: BodyWith, time: Any) -> None:
    """A time that is none is left out and named; the rest of the body is captured."""
    told = snapshot(body(started_at=time))
    assert [type(event) for event in told.events] == [RunCreated, RunModified, RunCompleted]
    assert len(told.complaints) == 1
    assert told.complaints[0].startswith("started_at")


def test_zero_is_no_time(body: BodyWith) -> None:
    """Servers that write 0 for "not yet" are read as having written null."""
    assert snapshot(body(**WAITING, started_at=0)) == snapshot(body(**FRESH))


@pytest.mark.parametrize("missing", ["id", "thread_id"])
def test_body_without_identity_is_told(body: BodyWith, missing: str) -> None:
    """A body that does not say which run, or which thread, proves nothing."""
    told = snapshot(body(**{missing: None}))
    assert told == Snapshot([], [f"{missing} is missing"])


def test_body_without_any_time_is_told(body: BodyWith) -> None:
    """No event is made up where a body has no time at all."""
    told = snapshot(body(created_at=None, started_at=None, completed_at=None))
    assert told.events == []
    assert "no time" in told.complaints[0]


def test_absent_fields_are_tolerated() -> None:
    """A body that has an id, a thread, a status and one time is enough."""
    told = snapshot({"id": "r", "thread_id": "t", "status": "queued", "created_at": CREATED // 1000})
    assert told.complaints == []
    assert [type(event) for event in told.events] == [RunCreated, RunQueued]


def test_created_without_its_time_is_approximate(body: BodyWith) -> None:
    """Where `created_at` is missing, `created` stands at the body's first time and says that it is not its own."""
    event = only(snapshot(body(created_at=None)), RunCreated)
    assert (event.occurred_at, event.approximate) == (STARTED, True)


def test_unknown_fields_are_kept(body: BodyWith) -> None:
    """What nobody modelled is kept in `extra`, as it came."""
    event = only(snapshot(body(service_tier="flex", nested={"a": [1]}, nothing=None)), RunCreated)
    assert event.extra == {"service_tier": "flex", "nested": {"a": [1]}}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"tools": "none"}, "tools"),
        ({"tools": ["none"]}, "tools"),
        ({"metadata": []}, "metadata"),
        ({"last_error": "oops"}, "last_error"),
        ({"model": 4}, "model"),
        ({"max_prompt_tokens": 1.5}, "max_prompt_tokens"),
        ({"tier": 2**70}, "tier"),
    ],
)
def test_field_of_a_wrong_type_is_left_out(body: BodyWith, changes: dict[str, Any], field: str) -> None:
    """A field that an event could not carry is named and left out; the facts stay."""
    told = snapshot(body(**changes))
    assert len(told.complaints) == 1
    assert told.complaints[0].startswith(f"{field} is left out")
    assert {RunCreated, RunInProgress, RunCompleted} <= {type(event) for event in told.events}


@pytest.mark.parametrize("status", [None, "paused", 3, []])
def test_unknown_status_is_told(body: BodyWith, status: Any) -> None:
    """A status that is none is named; what the body's times prove is captured."""
    told = snapshot(body(status=status))
    assert [type(event) for event in told.events] == [RunCreated, RunInProgress, RunModified]
    assert told.complaints[0].startswith("status")


def test_unreadable_action_is_told(body: BodyWith) -> None:
    """A required action that clients could not read is named."""
    told = snapshot(body(**WAITING | {"status": "requires_action", "required_action": {"type": "approve"}}))
    assert "required_action.type" in told.complaints[0]


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4}, Usage(prompt_tokens=3, completion_tokens=4, total_tokens=7)),
        (
            {
                "prompt_tokens": 3,
                "completion_tokens": 4,
                "total_tokens": 9,
                "prompt_tokens_details": {"cached_tokens": 2},
            },
            Usage(
                prompt_tokens=3, completion_tokens=4, total_tokens=9, prompt_token_details=TokenDetails(cached_tokens=2)
            ),
        ),
    ],
    ids=["without a total", "the other spelling"],
)
def test_usage_is_read_in_other_spellings(body: BodyWith, told: dict[str, Any], usage: Usage) -> None:
    """A missing total is the sum, and both spellings of the prompt's details are known."""
    assert only(snapshot(body(usage=told)), RunCompleted).usage == usage


@pytest.mark.parametrize(
    "usage",
    [
        {},
        {"prompt_tokens": 3},
        {"prompt_tokens": -1, "completion_tokens": 1, "total_tokens": 0},
        {"tokens": 5},
        "many",
        {"prompt_tokens": True, "completion_tokens": 1},
    ],
)
def test_usage_that_cannot_be_understood_is_unknown(body: BodyWith, usage: Any) -> None:
    """Usage that is not understood is null, never 0, and is told."""
    told = snapshot(body(usage=usage))
    assert only(told, RunCompleted).usage is None
    assert told.complaints[0].startswith("usage is")


def test_unreadable_details_leave_the_counts(body: BodyWith) -> None:
    """Details that are not understood are left out and told; the counts stay."""
    told = snapshot(
        body(usage={"prompt_tokens": 3, "completion_tokens": 4, "prompt_token_details": {"cached_tokens": "2"}})
    )
    assert only(told, RunCompleted).usage == Usage(prompt_tokens=3, completion_tokens=4, total_tokens=7)
    assert told.complaints[0].startswith("usage.prompt_token_details")


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"status": "queued", "completed_at": 1761861690}, "completed_at is set, and the status is 'queued'"),
        ({"created_at": 1761861690, "started_at": 1761861680}, "started_at is before created_at"),
    ],
)
def test_contradictions_are_told(body: BodyWith, fields: dict[str, object], complaint: str) -> None:
    """What cannot be true together is named; the body is captured all the same."""
    told = snapshot(body(**fields))
    assert complaint in told.complaints
    assert told.events
