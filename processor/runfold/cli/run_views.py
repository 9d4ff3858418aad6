"""How people see a Run: a row of a list, and everything known of one. Looks only; nothing is read here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from runfold.cli.printing import shown_json, shown_seconds, shown_time
from runfold.fold.outcome import Flag
from runfold.fold.projection import project, run_of
from runfold.fold.state import RunState
from runfold.fold.table import STATUS_BITS
from runfold.fold.timeline import entries
from runfold_schemas import RunStatus

ROW = ("run", "status", "model", "assistant", "created", "ended", "tokens", "flags")

_TIMES = ("created_at", "started_at", "expires_at", "cancelled_at", "failed_at", "completed_at")
_PLAIN = ("id", "status", "thread_id", "assistant_id", "model")


def row(state: RunState) -> Sequence[object]:
    """A run in the columns of ``ROW``."""
    run = run_of(state)
    return (
        run.id,
        run.status,
        run.model,
        run.assistant_id,
        shown_seconds(run.created_at),
        shown_time(state.ended_at),
        None if run.usage is None else run.usage.total_tokens,
        flags_of(state),
    )


def flags_of(state: RunState) -> str:
    """What people should know of a run, in words."""
    return ", ".join(str(flag.name).lower() for flag in Flag(state.flags))


def facts(state: RunState, *, partitions: Sequence[int]) -> Iterator[tuple[str, object]]:
    """All that is known of a run: names and values. ``partitions`` are those that hold it, the one shown first."""
    run = project(state)
    yield from ((name, run[name]) for name in _PLAIN)
    yield "instructions", (run["instructions"] or "").splitlines()
    yield from ((name, shown_seconds(run[name])) for name in _TIMES)
    shown = {"object", "instructions", *_PLAIN, *_TIMES}
    yield from ((name, _shown(value)) for name, value in run.items() if name not in shown)
    yield "timeline", list(_timeline(state))
    yield "missing", ", ".join(f"{first} to {last}" for _, first, last in state.missing())
    yield "flags", flags_of(state)
    yield "log", f"partition {partitions[0]}, offsets {state.first_offset} to {state.last_offset}"
    if len(partitions) > 1:
        yield (
            "split",
            f"its events lie on partitions {', '.join(map(str, sorted(partitions)))}; publish with one partitioner",
        )


def _timeline(state: RunState) -> Iterator[str]:
    if state.created is not None:
        yield f"{shown_time(state.first_at)}  created"
    for _, code, _, at in entries(state.timeline):
        yield f"{shown_time(at)}  {RunStatus(code & STATUS_BITS).wire}"


def _shown(value: Any) -> object:
    return shown_json(value) if isinstance(value, dict | list) else value
