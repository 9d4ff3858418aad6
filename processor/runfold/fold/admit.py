"""From a record to an event, or to the reason why it is none. What is decided here needs the record alone.

The order of reasons is: too large, malformed, unknown type, key, clock. A record that is rejected still tells its number
where it can be read and its run is the one that its key names.
"""

from __future__ import annotations

from collections.abc import Callable

from runfold.fold.outcome import CLOCK, KEY_MISMATCH, MALFORMED, TOO_LARGE, UNKNOWN_TYPE, Rejection
from runfold.fold.record import Record
from runfold.fold.rules import Rules
from runfold_schemas.codec import Malformed, Unknown
from runfold_schemas.events import EVENT_TYPES, Event
from runfold_schemas.lean import LEAN_EVENT_TYPES

EARLIEST = 978_307_200_000
"""2001-01-01 in Unix milliseconds. A time in seconds, taken for milliseconds, lies before it until the year 33000."""
DAY = 86_400_000

READABLE = frozenset({*EVENT_TYPES, *LEAN_EVENT_TYPES})

Decode = Callable[[bytes | None], Event | Unknown | Malformed]


def run_of_key(key: bytes | None) -> str | None:
    """The run that a record's key names, None where it names none."""
    try:
        return key.decode() if key else None
    except UnicodeDecodeError:
        return None


def admit(record: Record, rules: Rules, decode: Decode) -> Event | Rejection:
    """The event that a record holds, or why it is a dead letter."""
    value, key = record.value, record.key
    told = decode(value)
    if not isinstance(told, Event) or (value is not None and len(value) > rules.largest_value):
        return _unreadable(told, record, rules)
    if told.run_id.encode() != key:
        named = "no key" if key is None else f"the key {key[:80]!r}"
        return Rejection(reason=KEY_MISMATCH, detail=f"a record of run {told.run_id!r} has {named}: key it by run_id")
    at, published = told.occurred_at, record.timestamp
    if at < EARLIEST or (at > published + DAY and published >= 0):
        return _wrong_clock(told, published)
    return told


def _unreadable(told: Event | Unknown | Malformed, record: Record, rules: Rules) -> Rejection:
    size = len(record.value or b"")
    if size > rules.largest_value:
        reason, detail = TOO_LARGE, f"{size:,} bytes, and the largest value is {rules.largest_value:,}"
    elif isinstance(told, Unknown):
        reason, detail = UNKNOWN_TYPE, f"this version knows no event of type {told.type!r}"
    else:
        assert isinstance(told, Malformed)
        reason, detail = MALFORMED, told.detail
    same_run = told.run_id is not None and told.run_id == run_of_key(record.key)
    return Rejection(
        reason=reason,
        detail=detail,
        source=told.source if same_run else None,
        sequence=told.sequence if same_run else None,
    )


def _wrong_clock(event: Event, published: int) -> Rejection:
    at = event.occurred_at
    if at < EARLIEST:
        detail = f"occurred_at {at} is before 2001"
        if EARLIEST <= at * 1000 <= max(published, EARLIEST) + DAY:
            detail += ": it looks like seconds, and milliseconds are wanted"
    else:
        detail = f"occurred_at {at} is more than a day after the record's own timestamp {published}"
        if EARLIEST <= at // 1000 <= published + DAY:
            detail += ": it looks like microseconds, and milliseconds are wanted"
    return Rejection(reason=CLOCK, detail=detail, source=event.source, sequence=event.sequence)
