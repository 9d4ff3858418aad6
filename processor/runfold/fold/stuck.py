"""Runs that should have ended, or been heard of: a look at a state, from which no event is ever invented."""

from __future__ import annotations

from typing import Final, Literal, get_args

from runfold.fold.projection import run_of
from runfold.fold.state import RunState
from runfold.fold.timeline import entries

Why = Literal["expired", "silent"]
REASONS: Final[tuple[Why, ...]] = get_args(Why)


def heard_at(state: RunState) -> int:
    """The latest time that the run's status events told, Unix milliseconds."""
    return max([state.first_at, *(at for _, _, _, at in entries(state.timeline))])


def why_stuck(state: RunState, *, now: int, silent: float) -> list[Why]:
    """Why an open run is stuck; nothing where it is not. ``now`` is in Unix milliseconds, ``silent`` in seconds."""
    expires_at = run_of(state).expires_at
    expired = expires_at is not None and expires_at * 1000 < now
    unheard = heard_at(state) + silent * 1000 < now
    return [why for why, true in zip(REASONS, (expired, unheard), strict=True) if true]
