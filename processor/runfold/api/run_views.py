"""How the API shows what only runfold knows of a Run. Looks only; nothing is read here."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from runfold.fold.outcome import Flag
from runfold.fold.projection import encode_run
from runfold.fold.state import RunState
from runfold.fold.stuck import Why, heard_at
from runfold.fold.table import STATUS_BITS
from runfold.fold.timeline import entries
from runfold.fold.usage import SUMS
from runfold.replay.history import Change, HistoryEntry, UsageMove
from runfold.store.split import chosen
from runfold_schemas.run import Run, RunStatus


class Gap(Struct, frozen=True, kw_only=True):
    """Numbers of a source that have not come, both ends included. ``source`` is a hash of its name."""

    source: str
    first: int
    last: int


class TimelineEntry(Struct, frozen=True, kw_only=True):
    """A status that the run entered; ``at`` in Unix milliseconds."""

    status: str
    at: int


class KnownRun(Struct, frozen=True, kw_only=True):
    """A Run, and what is known of it beside. ``heard_at`` is the latest time that its events told, Unix milliseconds.

    ``partition`` and the offsets say where in the log its records lie, ``split`` that other partitions hold some too.
    """

    run: Run
    flags: list[str]
    missing: list[Gap]
    heard_at: int
    partition: int | None
    first_offset: int
    last_offset: int
    split: bool
    timeline: list[TimelineEntry]


class StuckRun(Struct, frozen=True, kw_only=True):
    """An open Run that should have ended or been heard of: ``why`` says which."""

    run: Run
    why: list[str]
    heard_at: int
    silent_seconds: float


class UsageChange(Struct, frozen=True, kw_only=True):
    """What a record added to a bucket: of which minute (Unix minutes), dimensions (null: unknown) and status, and how much."""

    minute: int
    model: str | None
    assistant_id: str | None
    project_id: str | None
    user_id: str | None
    api_key_id: str | None
    status: str
    added: dict[str, int]


class HistoryRecord(Struct, frozen=True, kw_only=True):
    """One record of a run. Times are in Unix milliseconds; what cannot be read of a dead letter is null.

    ``changed`` maps fields of the Run, and beside them ``flags`` and ``missing``, to what they were and became.
    """

    partition: int
    offset: int
    timestamp: int
    type: str | None
    event_id: str | None
    occurred_at: int | None
    source: str | None
    sequence: int | None
    outcome: str
    explanation: str
    reason: str | None
    changed: dict[str, Change]
    usage: list[UsageChange]


def history_record(entry: HistoryEntry) -> HistoryRecord:
    """An entry of a history as it is shown."""
    told = {name: getattr(entry, name) for name in HistoryRecord.__struct_fields__ if name != "usage"}
    return HistoryRecord(**told, usage=[_usage_change(move) for move in entry.usage])


def _usage_change(move: UsageMove) -> UsageChange:
    dimensions = {name: value or None for name, value in move.bucket.dimensions._asdict().items()}
    status, added = RunStatus(move.bucket.status).wire, dict(zip(SUMS, move.sums, strict=True))
    return UsageChange(minute=move.bucket.minute, **dimensions, status=status, added=added)


def known_run(parts: dict[int, RunState], run_id: str) -> dict[str, Any]:
    """A :class:`KnownRun` as it is encoded, from the run's states by partition."""
    rows = [_Part(partition, run_id, state.flags) for partition, state in parts.items()]
    partition = chosen(rows)[run_id].partition
    return {**_known(parts[partition]), "partition": partition, "split": len(parts) > 1}


def listed_run(state: RunState) -> dict[str, Any]:
    """A :class:`KnownRun` of a list, which does not say where it lies."""
    return {**_known(state), "partition": None, "split": False}


def stuck_run(state: RunState, why: list[Why], *, now: int) -> dict[str, Any]:
    """A :class:`StuckRun` as it is encoded. ``now`` is in Unix milliseconds."""
    heard = heard_at(state)
    silent = max(0, now - heard) / 1000
    return {"run": msgspec.Raw(encode_run(state)), "why": why, "heard_at": heard, "silent_seconds": silent}


class _Part(Struct, frozen=True):
    partition: int
    run_id: str
    flags: int


def _known(state: RunState) -> dict[str, Any]:
    timeline = [] if state.created is None else [TimelineEntry(status="created", at=state.first_at)]
    timeline += [
        TimelineEntry(status=RunStatus(code & STATUS_BITS).wire, at=at) for _, code, _, at in entries(state.timeline)
    ]
    return {
        "run": msgspec.Raw(encode_run(state)),
        "flags": [flag.name.lower() for flag in Flag if state.flags & flag and flag.name],
        "missing": [Gap(source=f"{source:016x}", first=first, last=last) for source, first, last in state.missing()],
        "heard_at": heard_at(state),
        "first_offset": state.first_offset,
        "last_offset": state.last_offset,
        "timeline": timeline,
    }
