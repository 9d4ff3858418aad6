"""Nothing is sent that a reader could not take."""

from __future__ import annotations

import pytest

from runfold.log.checking import DAY, EARLIEST, InvalidEvent, check_origin, checked_bytes
from runfold_schemas import codec
from runfold_schemas.events import RunCompleted, RunCreated, RunInProgress, RunModified, Usage

NOW = 1_760_000_000_000
GIVEN = {"id": "e1", "run_id": "run_1", "thread_id": "thread_1", "occurred_at": NOW}


def refused(event) -> InvalidEvent:
    with pytest.raises(InvalidEvent) as caught:
        checked_bytes(event, NOW)
    return caught.value


def test_a_sound_event_becomes_its_bytes():
    """What passes is exactly what the codec encodes."""
    event = RunInProgress(**GIVEN)
    assert checked_bytes(event, NOW) == codec.encode(event)


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (RunInProgress(**{**GIVEN, "thread_id": ""}), "thread_id"),
        (RunInProgress(**{**GIVEN, "id": "x" * 65}), "id"),
        (RunInProgress(**GIVEN, source=""), "source"),
        (RunInProgress(**GIVEN, sequence=0), "sequence"),
        (RunCreated(**GIVEN, model=3), "model"),
        (RunModified(**GIVEN, metadata={"a": b"bytes"}), "metadata"),
        (
            RunCompleted(**GIVEN, usage=Usage(prompt_tokens=-1, completion_tokens=0, total_tokens=0)),
            "usage.prompt_tokens",
        ),
    ],
)
def test_the_field_at_fault_is_named(event, field):
    """A value that a reader would refuse is refused by the name of its field."""
    assert refused(event).field == field


def test_the_reason_reads_without_the_field():
    """The reason is a sentence of its own, and the message begins with the field."""
    error = refused(RunInProgress(**{**GIVEN, "thread_id": 5}))
    assert str(error) == f"thread_id: {error.reason}"
    assert "$" not in error.reason


def test_what_cannot_be_encoded_is_refused():
    """An object that has no bytes is refused, and does not escape as another error."""
    assert refused(RunModified(**GIVEN, metadata={"a": object()})).field == "event"


def test_half_a_character_is_refused():
    """Text with a lone surrogate, which has no bytes, is refused."""
    assert refused(RunInProgress(**{**GIVEN, "thread_id": "\ud800"})).field == "event"


@pytest.mark.parametrize("time", [EARLIEST, NOW, NOW + DAY])
def test_a_credible_time_passes(time):
    """Times from 2001 to a day from now pass."""
    assert checked_bytes(RunInProgress(**{**GIVEN, "occurred_at": time}), NOW)


@pytest.mark.parametrize("time", [1, EARLIEST - 1, NOW + DAY + 1])
def test_an_incredible_time_is_refused(time):
    """Times before 2001 or more than a day ahead are refused."""
    assert refused(RunInProgress(**{**GIVEN, "occurred_at": time})).field == "occurred_at"


def test_seconds_get_a_hint():
    """A time that looks like seconds is refused with a hint."""
    assert "seconds" in refused(RunInProgress(**{**GIVEN, "occurred_at": NOW // 1000})).reason


def test_a_far_future_gets_no_hint_of_seconds():
    """A time too far ahead is not taken for seconds."""
    assert "looks like seconds" not in refused(RunInProgress(**{**GIVEN, "occurred_at": NOW * 2})).reason


def test_too_large_an_event_is_refused():
    """An event above a million bytes is refused with its size."""
    assert "1,0" in refused(RunModified(**GIVEN, metadata={"a": "x" * 1_000_000})).reason


def test_the_limit_is_the_readers():
    """Whoever reads with another limit is sent events up to that, and no larger ones."""
    event = RunModified(**GIVEN, metadata={"a": "x" * 1_000_000})
    value = codec.encode(event)
    assert checked_bytes(event, NOW, largest=len(value)) == value
    with pytest.raises(InvalidEvent, match=f"at most {len(value) - 1:,}"):
        checked_bytes(event, NOW, largest=len(value) - 1)


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({"type": "thread.run.created"}, "type"),
        (RunInProgress(**{**GIVEN, "run_id": None}), "run_id"),
        (RunInProgress(**{**GIVEN, "occurred_at": "now"}), "occurred_at"),
        (RunInProgress(**{**GIVEN, "occurred_at": 1.5e12}), "occurred_at"),
    ],
)
def test_what_cannot_be_numbered_is_refused_first(event, field):
    """What is no event, or has no readable run or time, is refused before it gets a number."""
    with pytest.raises(InvalidEvent) as caught:
        check_origin(event)
    assert caught.value.field == field
