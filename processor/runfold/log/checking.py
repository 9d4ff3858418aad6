"""What an event must be before it is sent: what every reader will be able to decode, and what the fold will not reject.

An event is checked as the bytes that would be sent, by the codec that reads them, so that there is one definition only.
Times are Unix milliseconds.
"""

from __future__ import annotations

import re

import msgspec

from runfold_schemas import codec
from runfold_schemas.events import EVENT_TYPES, Event

EARLIEST = 978_307_200_000
"""The start of 2001: earlier milliseconds are seconds, most of the time."""

DAY = 86_400_000
MOST_BYTES = 1_000_000
"""Of an event, where nobody sets another limit; readers reject what is over theirs (RUNFOLD_LARGEST_VALUE)."""

_KNOWN_TYPES = frozenset(EVENT_TYPES)
_LONGEST_SECONDS = 100_000_000_000
_PATH = re.compile(r"`\$\.?([^`]*)`$")
_NAME = re.compile(r"(?:[a-z_]+)(?:\.[a-z_]+)*(?= (?:is|holds) )")


class InvalidEvent(ValueError):
    """An event that no reader would accept; nothing of the call was sent. ``field`` and ``reason`` say what is wrong."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field, self.reason = field, reason


def check_origin(event: Event) -> None:
    """Check what has to be known before an event can be numbered; constructors let anything pass."""
    if type(event) not in _KNOWN_TYPES:
        raise InvalidEvent("type", f"{type(event).__name__} is no event of this version of runfold_schemas")
    if type(event.run_id) is not str:
        raise InvalidEvent("run_id", f"expected text, got {type(event.run_id).__name__}")
    if type(event.occurred_at) is not int:
        raise InvalidEvent("occurred_at", f"expected whole milliseconds, got {type(event.occurred_at).__name__}")


def checked_bytes(event: Event, now: int, *, largest: int = MOST_BYTES) -> bytes:
    """The event as it goes on the wire, in at most ``largest`` bytes.

    Raises InvalidEvent: unreadable, too large, or of no credible time.
    """
    try:
        value = codec.encode(event)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidEvent("event", f"cannot be encoded: {error}") from error
    if len(value) > largest:
        raise InvalidEvent("event", f"takes {len(value):,} bytes; at most {largest:,} are allowed")
    read_back = codec.decode(value)
    if isinstance(read_back, codec.Malformed):
        raise unreadable(read_back.detail)
    check_time(event, now)
    return value


def check_time(event: Event, now: int) -> None:
    """Raise InvalidEvent for a time that is not credible."""
    if not EARLIEST <= event.occurred_at <= now + DAY:
        raise InvalidEvent("occurred_at", _about_time(event.occurred_at))


def unreadable(detail: str) -> InvalidEvent:
    """Name the field that the codec's sentence is about."""
    if path := _PATH.search(detail):
        return InvalidEvent(path[1] or "event", detail[: path.start()].removesuffix(" - at "))
    name = _NAME.match(detail)
    return InvalidEvent(name[0] if name else "event", detail)


def _about_time(time: int) -> str:
    rule = f"{time} is not between 2001-01-01 and a day from now, in milliseconds"
    if EARLIEST // 1000 <= time < _LONGEST_SECONDS:
        return f"{rule}; it looks like seconds: multiply it by 1000"
    return rule
