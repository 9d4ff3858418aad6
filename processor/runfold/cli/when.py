"""Points in time as people write them: ISO 8601, Unix seconds, or counted back from now."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from cyclopts import Parameter, Token

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_RELATIVE = re.compile(r"-(\d{1,9})([smhdw])")
_WANTED = "a time is wanted: 2026-01-31, 2026-01-31T12:00:00Z, Unix seconds, now, or such as -90m, -1h, -7d"
_LATEST = 253_402_300_800  # the year 10000, which no calendar here goes beyond


def milliseconds_of(text: str, *, now: float) -> int:
    """Unix milliseconds; a time without a zone is UTC. ``now`` is in Unix seconds. Raises ValueError."""
    if text == "now":
        return int(now * 1000)
    if relative := _RELATIVE.fullmatch(text):
        return int(now * 1000) - int(relative[1]) * _SECONDS[relative[2]] * 1000
    seconds = int(text) if text.isascii() and text.isdigit() and len(text) > 8 else _calendar(text)
    if not 0 <= seconds < _LATEST:
        raise ValueError(f"{text!r} is out of range, or in milliseconds; {_WANTED}")
    return round(seconds * 1000)


def _calendar(text: str) -> float:
    try:
        told = datetime.fromisoformat(text)
        return (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no time; {_WANTED}") from None


def _milliseconds(_: Any, tokens: Sequence[Token]) -> int:
    return milliseconds_of(tokens[0].value, now=time.time())


def _seconds(_: Any, tokens: Sequence[Token]) -> int:
    return milliseconds_of(tokens[0].value, now=time.time()) // 1000


def _point(name: str, converter: Callable[[Any, Sequence[Token]], int], text: str) -> Parameter:
    return Parameter(name=name, converter=converter, n_tokens=1, allow_leading_hyphen=True, help=text)


At = Annotated[
    int | None, _point("--at", _milliseconds, "ISO 8601 (UTC), Unix seconds, or back from now, such as -1h.")
]
"""An instant, Unix milliseconds."""
From = Annotated[
    int | None, _point("--from", _seconds, "Begin: ISO 8601 (UTC), Unix seconds, or back from now, such as -1h.")
]
Until = Annotated[int | None, _point("--until", _seconds, "End, not included; written as --from.")]
"""Bounds of a period, Unix seconds: usage is kept by the minute."""
