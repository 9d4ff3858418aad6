"""The transitions of a Run, as data, and the walk over a timeline that they decide.

``TABLE[status][to]`` says what a status event does to a run in ``status``. A terminal entry of the timeline counts only
where it is marked as *the* end: the first terminal event in the log, wherever it stands in the timeline.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

from runfold.fold.outcome import APPLIED, LATE, REFUSED, UNCHANGED, Outcome
from runfold_schemas.run import RunStatus

QUEUED = int(RunStatus.QUEUED)
IN_PROGRESS = int(RunStatus.IN_PROGRESS)
REQUIRES_ACTION = int(RunStatus.REQUIRES_ACTION)
CANCELLING = int(RunStatus.CANCELLING)
FIRST_END = int(RunStatus.CANCELLED)
STATUSES = len(RunStatus)

# An entry's second number: the status in the low four bits, and these.
STATUS_BITS = 15
END = 16
APPROXIMATE = 32

Entry = tuple[int, int, int, int]
"""A fact of a timeline: index of its source, status and bits, sequence (0: none), time in ms."""


class Move(IntEnum):
    """What the table says of a status event."""

    ENTER = 0
    SAME = 1
    RESTART_IF_LATER = 2
    REPLACE = 3
    REFUSE = 4
    TOO_LATE = 5


ENTER, SAME, RESTART, REPLACE, REFUSE, TOO_LATE = (int(move) for move in Move)
_ENDS = (ENTER,) * (STATUSES - FIRST_END)

TABLE: tuple[tuple[int, ...], ...] = (
    # to:    queued  in_progress requires_action cancelling  any end
    (SAME, ENTER, ENTER, ENTER, *_ENDS),  # from queued
    (ENTER, RESTART, ENTER, ENTER, *_ENDS),  # from in_progress
    (ENTER, ENTER, REPLACE, ENTER, *_ENDS),  # from requires_action
    (REFUSE, REFUSE, REFUSE, SAME, *_ENDS),  # from cancelling
    *((TOO_LATE,) * STATUSES for _ in _ENDS),  # from any end: the first one in the log stays
)

OUTCOMES: tuple[Outcome, ...] = (APPLIED, UNCHANGED, UNCHANGED, UNCHANGED, REFUSED, LATE)
"""The outcome of each move, where a restart or a replacement turned out to change nothing."""


class Walked(NamedTuple):
    """What a timeline comes to. ``since`` is when the status was entered.

    ``queue_ms`` and ``run_ms`` sum the times spent, negative ones taken for 0; ``exact`` says whether each is true.
    """

    status: int
    started_at: int | None
    since: int
    queue_ms: int
    run_ms: int
    exact: bool
    watched: Outcome


def walk(timeline: Iterable[Entry], *, created_at: int, watch: int = -1) -> Walked:
    """Run the table over a timeline of a run created at ``created_at`` (ms); tells the outcome of fact ``watch``."""
    status, since, started = QUEUED, created_at, None
    spent = [0] * STATUSES
    exact = True
    watched: Outcome = LATE
    for index, (_, code, _, at) in enumerate(timeline):
        to = code & STATUS_BITS
        move = TOO_LATE if to >= FIRST_END and not code & END else TABLE[status][to]
        outcome = OUTCOMES[move]
        if move == ENTER:
            spent[status] += max(0, at - since)
            status, since = to, at
            exact = exact and not code & APPROXIMATE
            if to == IN_PROGRESS:
                started = at
        elif move == RESTART and started is not None and at > started:
            started, outcome = at, APPLIED
        if index == watch:
            watched = outcome
    return Walked(status, started, since, spent[QUEUED], spent[IN_PROGRESS], exact, watched)
