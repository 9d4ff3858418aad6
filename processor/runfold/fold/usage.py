"""Usage: which bucket a run that has ended is booked in, with which sums, and what changes when more becomes known.

A bucket is the minute (UTC) in which the run ended, the run's dimensions as known then, and its final status. Hours and
days are sums of minutes. Cached and reasoning tokens are part of prompt and completion tokens, never on top.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from runfold.fold.outcome import Flag
from runfold.fold.rules import Rules
from runfold.fold.table import walk
from runfold_schemas.events import RunCreated

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


def dimensions_of(state: RunState, rules: Rules) -> Dimensions:
    """The run's dimensions as they are known now; frozen once it is booked, save for a ``created`` that comes later."""
    if state.booked is not None:
        return state.booked.bucket.dimensions
    return _told_by(state.created, state.metadata, rules)


def book(state: RunState, rules: Rules) -> Booking:
    """What the run adds to usage as it stands. ``state`` has ended."""
    ended_at = state.ended_at
    assert ended_at is not None
    bucket = BucketKey(ended_at // 60_000, _dimensions_at_end(state, rules), state.status)
    return Booking(bucket, _sums(state))


def differences(before: Booking | None, after: Booking | None) -> list[tuple[BucketKey, tuple[int, ...]]]:
    """What moves in which bucket when a run's booking goes from one to the other; nothing where they are equal."""
    if before == after:
        return []
    if before is not None and after is not None and before.bucket == after.bucket:
        return [(after.bucket, tuple(new - old for new, old in zip(after.sums, before.sums, strict=True)))]
    moved = [] if before is None else [(before.bucket, tuple(-number for number in before.sums))]
    return moved if after is None else [*moved, (after.bucket, after.sums)]


def _dimensions_at_end(state: RunState, rules: Rules) -> Dimensions:
    """Frozen where the run became final; a later ``created`` alone moves them, but not what a modified had told by then."""
    if state.booked is None:
        return _told_by(state.created, state.metadata, rules)
    frozen = state.booked.bucket.dimensions
    created = state.created
    if created is None:
        return frozen
    told = frozen if state.told_at_end else _told_by(created, None, rules)
    return Dimensions(created.model, created.assistant_id, told.project_id, told.user_id, told.api_key_id)


def _told_by(created: RunCreated | None, modified: dict[str, Any] | None, rules: Rules) -> Dimensions:
    metadata = modified if modified is not None else created.metadata if created is not None else {}
    model, assistant = ("", "") if created is None else (created.model, created.assistant_id)
    if not metadata:
        return Dimensions(model, assistant)
    return Dimensions(
        model,
        assistant,
        _dimension(metadata.get(rules.project_key)),
        _dimension(metadata.get(rules.user_key)),
        _dimension(metadata.get(rules.api_key_key)),
    )


def _dimension(value: object) -> str:
    """Metadata is free: text is a name, a whole number is spelled out, anything else names nothing."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def _sums(state: RunState) -> tuple[int, ...]:
    usage = state.usage
    tokens = (1, 0, 0, 0, 0, 0)
    if usage is not None:
        prompt, completion = usage.prompt_token_details, usage.completion_tokens_details
        tokens = (
            0,
            usage.prompt_tokens,
            0 if prompt is None else prompt.cached_tokens or 0,
            usage.completion_tokens,
            0 if completion is None else completion.reasoning_tokens or 0,
            usage.total_tokens,
        )
    return (1, *tokens, *_times(state))


def _times(state: RunState) -> tuple[int, int, int]:
    """Timed or not, ms in queue, ms in progress: unknown while a number or created is missing, or a time is not exact."""
    if state.flags & _UNKNOWN_TIMES:
        return (0, 0, 0)
    walked = walk(state.timeline, created_at=state.first_at)
    return (1, walked.queue_ms, walked.run_ms) if walked.exact else (0, 0, 0)
