"""Points in time as people write them: ISO 8601, Unix seconds, or counted back from now."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from cyclopts import Parameter, Token

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_RELATIVE = re.compile(r"-(\d{1,9})([smhdw])")
_WANTED = "a time is wanted: 2026-01-31, 2026-01-31T12:00:00Z, Unix seconds, now, or such as -90m, -1h, -7d"
_LATEST = 253_402_300_800  # the year 10000, which no calendar here goes beyond


def seconds_of(text: str, *, now: float) -> int:
    """Unix seconds; a time without a zone is UTC. ``now`` is in Unix seconds. Raises ValueError."""
    if text == "now":
        return int(now)
    if relative := _RELATIVE.fullmatch(text):
        return int(now) - int(relative[1]) * _SECONDS[relative[2]]
    seconds = int(text) if text.isascii() and text.isdigit() and len(text) > 8 else _calendar(text)
    if not 0 <= seconds < _LATEST:
        raise ValueError(f"{text!r} is out of range, or in milliseconds; {_WANTED}")
    return seconds


def _calendar(text: str) -> int:
    try:
        told = datetime.fromisoformat(text)
        return int((told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no time; {_WANTED}") from None


def _converted(_: Any, tokens: Sequence[Token]) -> int:
    return seconds_of(tokens[0].value, now=time.time())


def point(name: str, text: str) -> Parameter:
    """A parameter that is a point in time."""
    return Parameter(name=name, converter=_converted, n_tokens=1, allow_leading_hyphen=True, help=text)


From = Annotated[int | None, point("--from", "Begin: ISO 8601 (UTC), Unix seconds, or back from now, such as -1h.")]
Until = Annotated[int | None, point("--until", "End, not included; written as --from.")]
