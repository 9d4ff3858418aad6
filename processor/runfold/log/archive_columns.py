"""What an archive shows of an event beside its bytes: columns for those who ask with SQL, null where nothing can be read.

They are read from the value without the event's own type, so that an event of a newer publisher, or one that is rejected,
shows what it says all the same. Nothing here decides anything: replay reads the bytes. A new column is a field here; old
segments lack it, which their readers fill with null.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from runfold_schemas.codec import UNREADABLE

LATEST_TIME = 253_402_300_799_999
"""The last millisecond of the year 9999, behind which no calendar of theirs goes."""

_MOST = 2**63 - 1
_BRACE = 0x7B
_JSON_PREAMBLE = b"\xef\xbb\xbf \t\r\n"


class _Details(Struct, gc=False):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_token_details: _Details | None = None
    completion_tokens_details: _Details | None = None


class _Told(Struct, gc=False):
    """Whatever event it is, of these fields only."""

    type: str | None = None
    id: str | None = None
    run_id: str | None = None
    thread_id: str | None = None
    occurred_at: int | None = None
    source: str | None = None
    sequence: int | None = None
    assistant_id: str | None = None
    model: str | None = None
    metadata: Any = None
    usage: _Usage | None = None


_NOTHING = _Told()
_NO_USAGE, _NO_DETAILS = _Usage(), _Details()
_FIELDS = tuple(_Told.__annotations__)

TEXTS = ("type", "id", "run_id", "thread_id", "source", "assistant_id", "model", "metadata")
"""Columns of text; ``metadata`` is JSON."""
TIMES = ("occurred_at",)
"""Columns of Unix milliseconds."""
COUNTS = ("sequence", "prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "total_tokens")
"""Columns of whole numbers; cached and reasoning tokens are part of prompt and completion tokens, not on top."""

_decode = msgspec.msgpack.Decoder(_Told).decode
_decode_json = msgspec.json.Decoder(_Told).decode
_decode_object = msgspec.msgpack.Decoder(dict[str, Any]).decode
_decode_json_object = msgspec.json.Decoder(dict[str, Any]).decode
_encode_json = msgspec.json.Encoder().encode


def columns_of(values: Sequence[bytes | None]) -> dict[str, list[Any]]:
    """The columns of these values, each with an entry for each value."""
    told = list(map(_told_by, values))
    usages = [each.usage or _NO_USAGE for each in told]
    prompts = [each.prompt_token_details or _NO_DETAILS for each in usages]
    completions = [each.completion_tokens_details or _NO_DETAILS for each in usages]
    columns: dict[str, list[Any]] = {name: [getattr(each, name) for each in told] for name in TEXTS}
    columns["metadata"] = [_json_of(metadata) for metadata in columns["metadata"]]
    columns["occurred_at"] = [_within(each.occurred_at, LATEST_TIME) for each in told]
    columns["sequence"] = [_within(each.sequence, _MOST) for each in told]
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        columns[name] = [_within(getattr(each, name), _MOST) for each in usages]
    columns["cached_tokens"] = [_within(each.cached_tokens, _MOST) for each in prompts]
    columns["reasoning_tokens"] = [_within(each.reasoning_tokens, _MOST) for each in completions]
    return columns


def _told_by(value: bytes | None) -> _Told:
    """What a value says; nothing where it is no map of ours. Never raises."""
    if not value:
        return _NOTHING
    try:
        return _decode_json(value) if value[0] == _BRACE else _decode(value)
    except UNREADABLE:
        return _told_in_part(value)


def _told_in_part(value: bytes) -> _Told:
    """The fields that are of their type, of a value in which others are not."""
    try:
        text = value.lstrip(_JSON_PREAMBLE)
        found = _decode_json_object(text) if text[:1] == b"{" else _decode_object(value)
    except UNREADABLE:
        return _NOTHING
    told = _Told()
    for name in _FIELDS:
        try:
            part = msgspec.convert({name: found.get(name)}, _Told)
        except UNREADABLE:
            continue
        setattr(told, name, getattr(part, name))
    return told


def _json_of(metadata: Any) -> str | None:
    if not isinstance(metadata, dict):
        return None
    try:
        return _encode_json(metadata).decode()
    except UNREADABLE:
        return None


def _within(number: int | None, most: int) -> int | None:
    """A number that a column can hold, and a time that a calendar has."""
    return number if number is not None and 0 <= number <= most else None
