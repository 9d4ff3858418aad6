"""Usage: which bucket a run that has ended is booked in, with which sums, and what changes when more becomes known.

A bucket is the minute (UTC) in which the run ended, the run's dimensions as known then, and its final status. Hours and
days are sums of minutes. Cached and reasoning tokens are part of prompt and completion tokens, never on top.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, NamedTuple

from runfold.fold.outcome import Flag
from runfold.fold.rules import Rules
from runfold_schemas.events import JsonObject
from runfold_schemas.lean import LeanRunCreated

if TYPE_CHECKING:
    from runfold.fold.state import RunState

SUMS = (
    "runs",
    "without_usage",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "total_tokens",
    "timed_runs",
    "queue_ms",
    "run_ms",
)
"""What is summed in a bucket. ``queue_ms`` and ``run_ms`` are over the ``timed_runs``, those whose times are all known."""

_UNKNOWN_TIMES = int(Flag.INCOMPLETE | Flag.MISSING)


class Dimensions(NamedTuple):
    """By what usage can be grouped. ``""`` is unknown, and is shown as null."""

    model: str = ""
    assistant_id: str = ""
    project_id: str = ""
    user_id: str = ""
    api_key_id: str = ""


class BucketKey(NamedTuple):
    """Where a run is booked: ``minute`` in Unix minutes, ``status`` a :class:`runfold_schemas.RunStatus` number."""

    minute: int
    dimensions: Dimensions
    status: int


class Booking(NamedTuple):
    """What a run that has ended adds to usage: its bucket, and one number for each of :data:`SUMS`."""

    bucket: BucketKey
    sums: tuple[int, ...]


_new = tuple.__new__  # a named tuple without the detour over its own __new__: half the time


def named_in(metadata: JsonObject, rules: Rules) -> tuple[str, str, str]:
    """Project, user and API key, as metadata names them: text, or a whole number spelled out; anything else is none."""
    if not metadata:
        return "", "", ""
    told = metadata.get
    named = told(rules.project_key, ""), told(rules.user_key, ""), told(rules.api_key_key, "")
    for value in named:
        if type(value) is not str:
            project, user, key = (value if type(value) is str else _spelled(value) for value in named)
            return project, user, key
    return named


def dimensions_of(created: LeanRunCreated, rules: Rules) -> Dimensions:
    """The dimensions that a ``created`` tells."""
    return _new(Dimensions, (created.model, created.assistant_id, *named_in(created.metadata, rules)))


def _spelled(value: object) -> str:
    return str(value) if type(value) is int else ""


def book(state: RunState) -> Booking:
    """What the run adds to usage as it stands. ``state`` has ended."""
    ended_at, usage = state.ended_at, state.usage
    assert ended_at is not None
    timed = not state.flags & _UNKNOWN_TIMES and state.exact and state.started_at is not None
    times = (1, state.queue_ms, state.run_ms) if timed else (0, 0, 0)
    bucket = _new(BucketKey, (ended_at // 60_000, state.dimensions, state.status))
    if usage is None:
        return _new(Booking, (bucket, (1, 1, 0, 0, 0, 0, 0, *times)))
    prompt, completion = usage.prompt_token_details, usage.completion_tokens_details
    cached = 0 if prompt is None else prompt.cached_tokens or 0
    reasoning = 0 if completion is None else completion.reasoning_tokens or 0
    tokens = (usage.prompt_tokens, cached, usage.completion_tokens, reasoning, usage.total_tokens)
    return _new(Booking, (bucket, (1, 0, *tokens, *times)))


def differences(before: Booking | None, after: Booking | None) -> list[tuple[BucketKey, tuple[int, ...]]]:
    """What moves in which bucket when a run's booking goes from one to the other; nothing where they are equal."""
    if before == after:
        return []
    if before is not None and after is not None and before.bucket == after.bucket:
        return [(after.bucket, tuple(new - old for new, old in zip(after.sums, before.sums, strict=True)))]
    moved = [] if before is None else [(before.bucket, tuple(-number for number in before.sums))]
    return moved if after is None else [*moved, (after.bucket, after.sums)]


def add(usage: dict[BucketKey, list[int]], bucket: BucketKey, sums: tuple[int, ...]) -> None:
    """Add to a bucket's sums."""
    fresh = list(sums)
    booked = usage.setdefault(bucket, fresh)
    if booked is not fresh:
        booked[:] = map(operator.add, booked, sums)
