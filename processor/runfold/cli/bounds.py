"""Bounds of a rebuild as people write them: a time, or offsets by partition."""

from __future__ import annotations

import re
import time
from typing import Annotated

from cyclopts import Parameter

from runfold.cli.exits import WrongUseError
from runfold.cli.when import milliseconds_of
from runfold.replay.order import Bound, Order

_OFFSETS = re.compile(r"\d{1,9}:\d{1,18}(,\d{1,9}:\d{1,18})*")

_HOW = "a time as elsewhere, such as 2026-01-31 or -7d, or offsets by partition, such as 0:1200,1:900."
Begin = Annotated[str | None, Parameter(name="--from", allow_leading_hyphen=True, help=f"Where to begin: {_HOW}")]
End = Annotated[
    str | None, Parameter(name="--until", allow_leading_hyphen=True, help=f"Where to end, not included: {_HOW}")
]
OneRun = Annotated[str | None, Parameter(name="--run", help="Only the records of this run.")]


def order_of(begin: str | None, end: str | None, run_id: str | None) -> Order:
    """Raises WrongUseError."""
    if run_id is not None and (begin is not None or end is not None):
        raise WrongUseError("--run takes the run's own range: leave out --from and --until")
    named = (("--from", begin), ("--until", end), ("--run", run_id))
    words = " ".join(f"{name} {value}" for name, value in named if value is not None)
    return Order(begin=_bound("--from", begin), end=_bound("--until", end), run_id=run_id, words=words)


def _bound(name: str, text: str | None) -> Bound | None:
    """Times are in record timestamps: milliseconds."""
    if text is None:
        return None
    if _OFFSETS.fullmatch(text):
        return {int(which): int(offset) for which, offset in (part.split(":") for part in text.split(","))}
    try:
        return milliseconds_of(text, now=time.time())
    except ValueError as error:
        raise WrongUseError(f"{name}: {error}; or offsets by partition, such as 0:1200,1:900") from error
