"""``created`` as the fold reads it: free-form values are checked once and then left as bytes.

Building and checking nested dictionaries costs three times as much as all else about a ``created``, and the fold needs none
of them. The same few tools come with thousands of runs: what was checked is remembered by its bytes. A value is readable
here exactly when it is readable as :class:`RunCreated` (a property test holds the two together).
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any, get_type_hints

from msgspec import Raw, ValidationError, msgpack

from runfold_schemas.events import EVENT_TYPES, Event, JsonObject, RunCreated, Seconds
from runfold_schemas.json_value import MOST_NESTED, are_json

MOST_REMEMBERED = 4096
LARGEST_REMEMBERED = 16_384


ABSENT = Raw(b"\xc0")
"""The default of a free-form field: nobody told it. Compared by identity."""


class LeanRunCreated(Event, frozen=True, kw_only=True, tag="thread.run.created"):
    """:class:`RunCreated`, with its free-form values as they came."""

    assistant_id: str = ""
    model: str = ""
    instructions: str | None = None
    tools: Raw = ABSENT
    metadata: JsonObject = {}  # noqa: RUF012 - msgspec copies it
    expires_at: Seconds | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_prompt_tokens: int | None = None
    max_completion_tokens: int | None = None
    truncation_strategy: Raw = ABSENT
    response_format: Raw = ABSENT
    tool_choice: Raw = ABSENT
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    tool_resources: Raw = ABSENT
    extra: Raw = ABSENT


RAW_FIELDS = ("tools", "truncation_strategy", "response_format", "tool_choice", "tool_resources", "extra")
LEAN_EVENT_TYPES: tuple[type[Event], ...] = tuple(
    LeanRunCreated if kind is RunCreated else kind for kind in EVENT_TYPES
)

_others = attrgetter(*RAW_FIELDS[1:])
_NO_OTHERS = (ABSENT,) * len(RAW_FIELDS[1:])
_hints = get_type_hints(RunCreated)
_decoders = {name: msgpack.Decoder(_hints[name]).decode for name in RAW_FIELDS}
_encode_sorted = msgpack.Encoder(order="deterministic").encode
_encode = msgpack.Encoder().encode
_decode_created = msgpack.Decoder(RunCreated).decode
_decode_lean = msgpack.Decoder(LeanRunCreated).decode
_remembered: dict[str, dict[bytes, bytes]] = {name: {} for name in RAW_FIELDS}


def canonical(name: str, raw: Raw) -> bytes:
    """The value of field ``name`` with its keys in order, so that equal values are equal bytes.

    Raises msgspec.ValidationError or what else decoding raises where the value is not of the field's type or no JSON.
    """
    remembered, data = _remembered[name], bytes(raw)
    found = remembered.get(data)
    if found is None:
        value: Any = _decoders[name](data)
        _check(name, value)
        found = _encode_sorted(value)
        if len(data) <= LARGEST_REMEMBERED:
            if len(remembered) >= MOST_REMEMBERED:
                remembered.clear()
            remembered[data] = found
    return found


def check_lean(event: LeanRunCreated) -> LeanRunCreated:
    """Hold the free-form values to their types and to what JSON can express. Raises as :func:`canonical` does."""
    if event.tools is not ABSENT:
        canonical("tools", event.tools)
    others = _others(event)
    if others != _NO_OTHERS:  # the very same objects where nobody told anything, so this compares by identity
        for name, raw in zip(RAW_FIELDS[1:], others, strict=True):
            if raw is not ABSENT:
                canonical(name, raw)
    for value in event.metadata.values():
        if type(value) is not str:
            _check("metadata", event.metadata)
            break
    if event.temperature is not None or event.top_p is not None:
        _check("temperature or top_p", [event.temperature, event.top_p])
    return event


def _check(name: str, value: Any) -> None:
    if not are_json((value,)):
        raise ValidationError(f"{name} holds what JSON cannot express, or more than {MOST_NESTED} levels")


def lean_of(created: RunCreated) -> LeanRunCreated:
    """The same ``created``, as the fold reads it."""
    return _decode_lean(_encode(created))


def bytes_of_created(created: LeanRunCreated) -> bytes:
    """The ``created`` as MessagePack, for :func:`created_of_bytes`."""
    return _encode(created)


def created_of_bytes(data: bytes) -> RunCreated:
    """The ``created`` for people, from what :func:`bytes_of_created` gave."""
    return _decode_created(data)
