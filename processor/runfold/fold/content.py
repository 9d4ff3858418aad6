"""Hashes of an event: of its id, and of what it says apart from id, source and sequence.

Marks are made of these, so what is hashed here, and how, can never change without a new ``FOLD_VERSION``. Of a
``created`` only what every later body of the run repeats is hashed: its time, metadata and expiry go their own ways.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
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
    RunRequiresAction,
    RunUsageCorrected,
)
from runfold_schemas.lean import ABSENT, RAW_FIELDS, LeanRunCreated, canonical, created_of_bytes

MARK = 12
"""Bytes of a mark: 8 of the id's hash, then 4 of the content's."""

_SETTINGS = (
    "temperature",
    "top_p",
    "max_prompt_tokens",
    "max_completion_tokens",
    "parallel_tool_calls",
    "reasoning_effort",
    "truncation_strategy",
    "response_format",
    "tool_choice",
    "tool_resources",
)
_SAID = ("thread_id", "assistant_id", "model", "instructions", "tools", *_SETTINGS)
_plain_said = attrgetter(*(name for name in _SAID if name not in RAW_FIELDS))
_RAW_SAID = tuple(name for name in _SAID if name in RAW_FIELDS)
_raw_said = attrgetter(*_RAW_SAID)
_NO_SETTINGS = (ABSENT,) * (len(_RAW_SAID) - 1)
_NULL = b"\xc0"
_encode = msgpack.Encoder(order="deterministic").encode


def mark_of(event: Event) -> tuple[bytes, bytes]:
    """The two halves of an event's mark."""
    return xxh3_64_digest(event.id.encode()), xxh32_digest(CONTENT_OF[type(event)](event))


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
    return [name for name in _SAID if getattr(one, name) != getattr(other, name)]


def _plain(letter: str) -> Callable[[Event], bytes]:
    def content(event: Event) -> bytes:
        doubt = "~" if event.approximate else "="
        return f"{letter}{doubt}{event.occurred_at}{event.thread_id}".encode()

    return content


def _ended(letter: str) -> Callable[[RunEnded], bytes]:
    def content(event: RunEnded) -> bytes:
        told = (letter, event.approximate, event.occurred_at, event.thread_id, event.usage)
        if event.last_error is None and event.incomplete_details is None:
            return _encode(told)
        return _encode((*told, event.last_error, event.incomplete_details))

    return content


def _with(letter: str, *names: str) -> Callable[[Event], bytes]:
    told = attrgetter("approximate", "occurred_at", "thread_id", *names)
    return lambda event: _encode((letter, *told(event)))


def _created(event: LeanRunCreated) -> bytes:
    tools, *settings = raws = _raw_said(event)
    if tools is not ABSENT:
        tools = canonical("tools", tools)
    if raws[1:] != _NO_SETTINGS:  # the same few objects where nobody told anything: compared by identity
        settings = [
            _NULL if raw is ABSENT else canonical(name, raw) for name, raw in zip(_RAW_SAID[1:], settings, strict=True)
        ]
        return _encode((_plain_said(event), tools, settings))
    return _encode((_plain_said(event), tools))


CONTENT_OF: dict[type[Event], Callable[[Any], bytes]] = {
    LeanRunCreated: _created,
    RunQueued: _plain("q"),
    RunInProgress: _plain("p"),
    RunCancelling: _plain("c"),
    RunRequiresAction: _with("r", "required_action"),
    RunModified: _with("m", "metadata"),
    RunUsageCorrected: _with("u", "usage", "reason"),
    RunCancelled: _ended("x"),
    RunFailed: _ended("f"),
    RunCompleted: _ended("d"),
    RunIncomplete: _ended("i"),
    RunExpired: _ended("e"),
}
