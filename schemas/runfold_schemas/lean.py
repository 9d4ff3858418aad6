"""Events as the fold reads them: free-form values are checked once and then left as bytes.

Building and checking nested dictionaries costs several times as much as all else about an event, and the fold needs none of
them. The same few tools come with thousands of runs: what was checked is remembered by its bytes. A value is readable here
exactly when it is readable as its whole event (a property test holds the two together).
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, get_type_hints

from msgspec import Raw, ValidationError, defstruct, msgpack

from runfold_schemas.events import EVENT_TYPES, Event, JsonObject, RunCreated, RunRequiresAction, Seconds
from runfold_schemas.json_value import MOST_NESTED, are_json
from runfold_schemas.required_action import canonical_action

MOST_REMEMBERED = 1024
LARGEST_REMEMBERED = 4096

ABSENT = Raw(b"\xc0")
"""The default of a free-form field: nobody told it. Compared by identity."""


class LeanRunCreated(Event, frozen=True, tag="thread.run.created"):
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


class LeanRunRequiresAction(Event, frozen=True, tag="thread.run.requires_action"):
    """:class:`RunRequiresAction`, with its action as it came."""

    required_action: Raw


_LEAN: dict[type[Event], type[Event]] = {RunCreated: LeanRunCreated, RunRequiresAction: LeanRunRequiresAction}
LEAN_EVENT_TYPES: tuple[type[Event], ...] = tuple(_LEAN.get(kind, kind) for kind in EVENT_TYPES)

SETTINGS = (
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
SAID = ("thread_id", "assistant_id", "model", "instructions", "tools", *SETTINGS)
"""What every body of a run repeats. The rest of a ``created``, its metadata, expiry and extra, goes its own way."""

_BESIDE = ("metadata", "expires_at", "extra")
_RAW_FIELDS = ("tools", "truncation_strategy", "response_format", "tool_choice", "tool_resources", "extra")

_hints = get_type_hints(RunCreated)
_decoders = {name: msgpack.Decoder(_hints[name]).decode for name in _RAW_FIELDS}
_encode = msgpack.Encoder().encode
_encode_sorted = msgpack.Encoder(order="deterministic").encode
_settings = attrgetter(*SETTINGS)
_NO_SETTINGS = _settings(LeanRunCreated(run_id="", thread_id=""))
_NO_TOOLS = Raw(b"\x90")
_NIL = b"\xc0"
_remembered: dict[str, dict[bytes, Raw]] = {name: {} for name in _RAW_FIELDS}


def canonical(name: str, raw: Raw) -> Raw:
    """The value of field ``name`` with its keys in order, so that equal values are equal bytes.

    Raises msgspec.ValidationError or what else decoding raises where the value is not of the field's type or no JSON.
    """
    remembered, data = _remembered[name], bytes(raw)
    found = remembered.get(data)
    if found is None:
        value: Any = _decoders[name](data)
        _check(name, value)
        found = Raw(_encode_sorted(value))
        if len(data) <= LARGEST_REMEMBERED:
            if len(remembered) >= MOST_REMEMBERED:
                remembered.clear()
            remembered[data] = found
    return found


def said_by(created: LeanRunCreated) -> bytes:
    """What a ``created`` settles for good (:data:`SAID`), as MessagePack: equal where it says the same.

    Raises as :func:`canonical` does.
    """
    tools = created.tools
    said: tuple[Any, ...] = (
        created.thread_id,
        created.assistant_id,
        created.model,
        created.instructions,
        _NO_TOOLS if tools is ABSENT else canonical("tools", tools),
    )
    settings = _settings(created)
    if settings != _NO_SETTINGS:  # the very same objects where nobody told anything, so this compares by identity
        said += _canonical_settings(settings)
    return _encode(said)


def _canonical_settings(settings: tuple[Any, ...]) -> tuple[Any, ...]:
    """All settings, down to the last one told: null and left out are the same."""
    told = [
        canonical(name, value) if name in _remembered else value for name, value in zip(SETTINGS, settings, strict=True)
    ]
    _check("temperature or top_p", told[:2])
    while told and (told[-1] is None or (type(told[-1]) is Raw and bytes(told[-1]) == _NIL)):
        told.pop()
    return tuple(told)


def said_beside(created: LeanRunCreated) -> bytes:
    """The rest of a ``created`` for people: metadata, expires_at and extra. Raises as :func:`canonical` does."""
    metadata = created.metadata
    for value in metadata.values():
        if type(value) is not str:
            _check("metadata", metadata)
            break
    if created.extra is ABSENT:
        return _encode((metadata, created.expires_at))
    return _encode((metadata, created.expires_at, canonical("extra", created.extra)))


def bytes_of_created(created: LeanRunCreated) -> bytes:
    """What people are shown of a ``created``, for :func:`created_of_bytes`: nothing of its id, time and source."""
    return joined(said_by(created), said_beside(created))


def joined(said: bytes, beside: bytes) -> bytes:
    """The bytes of a ``created`` from those of its two parts."""
    return b"\x92" + said + beside  # an array of two


_Said = defstruct("_Said", [(name, _hints[name], None) for name in SAID], array_like=True)
_Beside = defstruct("_Beside", [(name, _hints[name], None) for name in _BESIDE], array_like=True)
parts_of_created: Callable[[bytes], tuple[Any, Any]] = msgpack.Decoder(tuple[_Said, _Beside]).decode  # type: ignore[valid-type]  # structs made of data
"""The two parts of the bytes of a ``created``, fields by their names (SAID; metadata, expires_at, extra); None: untold."""

_decode_lean = {lean: msgpack.Decoder(lean).decode for lean in _LEAN.values()}
_said_of = attrgetter(*SAID)
_beside_of = attrgetter(*_BESIDE)


def created_of_bytes(data: bytes) -> RunCreated:
    """The ``created`` for people, from what :func:`bytes_of_created` gave; its id, run_id, time and source are empty."""
    said, beside = parts_of_created(data)
    fields = dict(zip(SAID + _BESIDE, _said_of(said) + _beside_of(beside), strict=True))
    return RunCreated(run_id="", **{name: value for name, value in fields.items() if value is not None})


def check_lean(event: LeanRunCreated) -> LeanRunCreated:
    """Hold the free-form values to their types and to what JSON can express. Raises as :func:`canonical` does."""
    said_by(event)
    said_beside(event)
    return event


def check_lean_action(event: LeanRunRequiresAction) -> LeanRunRequiresAction:
    """Hold the action to the contract. Raises as :func:`runfold_schemas.required_action.check_action` does."""
    canonical_action(event.required_action)
    return event


def lean_of(event: Event) -> Event:
    """The same event, as the fold reads it."""
    lean = _LEAN.get(type(event))
    return event if lean is None else _decode_lean[lean](_encode(event))


def _check(name: str, value: Any) -> None:
    if not are_json((value,)):
        raise ValidationError(f"{name} holds what JSON cannot express, or more than {MOST_NESTED} levels")
