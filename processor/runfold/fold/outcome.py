"""What became of an event. Every record ends in exactly one of these; ``EXPLANATIONS`` says what each means to people."""

from __future__ import annotations

from enum import IntFlag
from typing import Final, Literal

from msgspec import Struct

Outcome = Literal["applied", "unchanged", "duplicate", "conflict", "stale", "late", "refused", "rejected"]

APPLIED: Final = "applied"
UNCHANGED: Final = "unchanged"
DUPLICATE: Final = "duplicate"
CONFLICT: Final = "conflict"
STALE: Final = "stale"
LATE: Final = "late"
REFUSED: Final = "refused"
REJECTED: Final = "rejected"

EXPLANATIONS: dict[Outcome, str] = {
    APPLIED: "it changed the run",
    UNCHANGED: "it said what the run already showed",
    DUPLICATE: "an event with this id and this content was folded before",
    CONFLICT: "an event with this id but other content was folded before; this one changed nothing",
    STALE: "its source had already told something newer of the same kind",
    LATE: "the run had ended before it",
    REFUSED: "a run that is being cancelled can only end",
    REJECTED: "it is kept as a dead letter",
}

MALFORMED: Final = "malformed"
UNKNOWN_TYPE: Final = "unknown_type"
TOO_LARGE: Final = "too_large"
KEY_MISMATCH: Final = "key_mismatch"
CLOCK: Final = "clock"
SECOND_CREATED: Final = "second_created"
TOO_MANY_EVENTS: Final = "too_many_events"
SET_ASIDE: Final = "set_aside"

REASONS: Final = (MALFORMED, UNKNOWN_TYPE, TOO_LARGE, KEY_MISMATCH, CLOCK, SECOND_CREATED, TOO_MANY_EVENTS, SET_ASIDE)
"""Every reason for which a record is rejected."""


class Rejection(Struct, frozen=True, kw_only=True):
    """Why a record is a dead letter. ``source`` and ``sequence`` stand where a record that cannot be folded told them."""

    reason: str
    detail: str
    source: str | None = None
    sequence: int | None = None


Verdict = Outcome | Rejection


class Flag(IntFlag):
    """What people should know of a run. Stored: never renumber."""

    INCOMPLETE = 1  # its created has not come
    MISSING = 2  # a number of one of its sources has not come
    SECOND_END = 4  # a second, different end was published
    THREAD = 8  # its events name more than one thread
    RECOUNTED = 16  # a source counted anew
    CONFLICT = 32  # an id came again with other content
    CROWDED = 64  # it has more events than the alarm allows
