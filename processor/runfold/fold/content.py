"""Hashes of an event: of its id, and of what it says apart from id, source and sequence.

Marks are made of these, so what is hashed here, and how, can never change without a new ``FOLD_VERSION``. Kind, time and
doubt go into the seed, all else into the hashed bytes. Of a ``created`` only what every later body of the run repeats is
hashed: its time, metadata and expiry go their own ways.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import msgpack
from xxhash import xxh3_64_digest, xxh32_digest

from runfold_schemas.events import (
    Event,
    RunCancelled,
    RunCancelling,
    RunCompleted,
    RunEnded,
    RunExpired,
    RunFailed,
    RunIncomplete,
    RunInProgress,
    RunModified,
    RunQueued,
    RunUsageCorrected,
)
from runfold_schemas.lean import SAID, LeanRunCreated, LeanRunRequiresAction, created_of_bytes, said_by
from runfold_schemas.required_action import canonical_action

MARK = 12
"""Bytes of a mark: 8 of the id's hash, then 4 of the content's."""

_encode = msgpack.Encoder(order="deterministic").encode


def mark_of(event: Event) -> tuple[bytes, bytes]:
    """The two halves of an event's mark."""
    kind = type(event)
    told = CONTENT_OF[kind](event)
    if kind is LeanRunCreated:
        return hash_of_id(event.id.encode()), hash_of_content(told)
    return hash_of_id(event.id.encode()), hash_of_content(told, seed_of(kind, event.occurred_at, event.approximate))


hash_of_id = xxh3_64_digest
hash_of_content = xxh32_digest


def seed_of(kind: type[Event], at: int, approximate: bool) -> int:
    """32 bits of when and what: of two events with one id, one is hardly ever 37 hours to the millisecond later."""
    return (at << 5 | CODE_OF[kind] << 1 | approximate) & 0xFFFFFFFF


def find_mark(marks: bytes, hashed: bytes) -> int:
    """Where in ``marks`` the id with this hash stands, or -1."""
    if hashed not in marks:
        return -1
    place = marks.find(hashed)
    while place >= 0 and place % MARK:
        place = marks.find(hashed, place + 1)
    return place


def differing_fields(created: bytes, second: bytes) -> list[str]:
    """Names of the fields in which two ``created`` of one run contradict each other: thread, assistant and settings."""
    one, other = created_of_bytes(created), created_of_bytes(second)
    return [name for name in SAID if getattr(one, name) != getattr(other, name)]


def _plain(event: Event) -> bytes:
    return event.thread_id.encode()


def ended_content(event: RunEnded) -> bytes:
    if event.last_error is None and event.incomplete_details is None:
        return _encode((event.thread_id, event.usage))
    return _encode((event.thread_id, event.usage, event.last_error, event.incomplete_details))


def _action(event: LeanRunRequiresAction) -> bytes:
    return event.thread_id.encode() + canonical_action(event.required_action)


def _modified(event: RunModified) -> bytes:
    return _encode((event.thread_id, event.metadata))


def _corrected(event: RunUsageCorrected) -> bytes:
    return _encode((event.thread_id, event.usage, event.reason))


CONTENT_OF: dict[type[Event], Callable[[Any], bytes]] = {
    LeanRunCreated: said_by,
    RunQueued: _plain,
    RunInProgress: _plain,
    RunCancelling: _plain,
    LeanRunRequiresAction: _action,
    RunModified: _modified,
    RunUsageCorrected: _corrected,
    **dict.fromkeys((RunCancelled, RunFailed, RunCompleted, RunIncomplete, RunExpired), ended_content),
}
CODE_OF = {kind: code for code, kind in enumerate(CONTENT_OF)}
