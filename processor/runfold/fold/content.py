"""Hashes of an event: of its id, and of what it says apart from id, source and sequence.

Marks are made of these, so what is hashed here, and how, can never change without a new ``FOLD_VERSION``. Of a
``created`` only what every later body of the run repeats is hashed: its time, metadata and expiry go their own ways.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from msgspec import msgpack
from xxhash import xxh3_64_digest, xxh32_digest

from runfold_schemas.events import (
    Event,
    RunCancelling,
    RunCreated,
    RunEnded,
    RunInProgress,
    RunModified,
    RunQueued,
    RunRequiresAction,
    RunUsageCorrected,
)

MARK = 12
"""Bytes of a mark: 8 of the id's hash, then 4 of the content's."""

_PLAIN: dict[type[Event], str] = {RunQueued: "q", RunInProgress: "p", RunCancelling: "c"}
_SAID = (
    "thread_id",
    "assistant_id",
    "model",
    "instructions",
    "tools",
    "temperature",
    "top_p",
    "max_prompt_tokens",
    "max_completion_tokens",
    "truncation_strategy",
    "response_format",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning_effort",
    "tool_resources",
)
_said = attrgetter(*_SAID)
_encode = msgpack.Encoder(order="deterministic").encode


def mark_of(event: Event) -> tuple[bytes, bytes]:
    """The two halves of an event's mark."""
    plain = _PLAIN.get(type(event))
    if plain is not None:
        doubt = "~" if event.approximate else "="
        content = f"{plain}{doubt}{event.occurred_at}{event.thread_id}".encode()
    else:
        content = _encode(_content(event))
    return xxh3_64_digest(event.id.encode()), xxh32_digest(content)


def find_mark(marks: bytes, hashed: bytes) -> int:
    """Where in ``marks`` the id with this hash stands, or -1."""
    if hashed not in marks:
        return -1
    place = marks.find(hashed)
    while place >= 0 and place % MARK:
        place = marks.find(hashed, place + 1)
    return place


def differing_fields(first: RunCreated, second: RunCreated) -> list[str]:
    """Names of the fields in which two ``created`` of one run contradict each other."""
    return [name for name in _SAID if getattr(first, name) != getattr(second, name)]


def _content(event: Event) -> tuple[Any, ...]:
    if isinstance(event, RunCreated):
        return ("created", *_said(event))
    told: tuple[Any, ...]
    if isinstance(event, RunEnded):
        told = (event.usage, event.last_error, event.incomplete_details)
    elif isinstance(event, RunRequiresAction):
        told = (event.required_action,)
    elif isinstance(event, RunModified):
        told = (event.metadata,)
    else:
        assert isinstance(event, RunUsageCorrected)
        told = (event.usage, event.reason)
    return (type(event).__name__, event.thread_id, event.occurred_at, event.approximate, *told)
