"""Bytes to events and back. Decoding never raises: what is no event is told apart as :class:`Unknown` or :class:`Malformed`.

The way of a value: a decoder of all known shapes at once reads it. Only where that fails is it read again, leniently, to
tell a newer publisher from a broken one and to save what can be read of its origin. JSON takes the same way: it is turned
into MessagePack first, so that both wires give equal events. Old shapes are upcast. Free-form values must be expressible
as JSON, because the Run they become part of has to be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Union

import msgspec
from msgspec import Struct, inspect

from runfold_schemas.events import EVENT_TYPES, Event, RunRequiresAction
from runfold_schemas.json_value import MOST_NESTED, are_json
from runfold_schemas.lean import (
    LEAN_EVENT_TYPES,
    LeanRunCreated,
    LeanRunRequiresAction,
    check_lean,
    check_lean_action,
)
from runfold_schemas.required_action import check_action
from runfold_schemas.upcast import UPCASTERS, Upcaster, check_chain, tag_of

UNREADABLE = (msgspec.MsgspecError, ValueError, TypeError, IndexError, OverflowError, RecursionError, MemoryError)
"""What a value can make decoding raise. Unicode errors are ValueErrors; a null and an empty value have no first byte."""

_BRACE = 0x7B
_JSON_STARTS = b" \t\r\n\xef"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Unknown(Struct, frozen=True):
    """An event whose tag this codec does not know: a newer publisher's, most likely. The rest is None if unreadable."""

    type: str
    run_id: str | None = None
    source: str | None = None
    sequence: int | None = None


class Malformed(Struct, frozen=True):
    """Bytes that are no event; ``detail`` says why. The rest is None if unreadable."""

    detail: str
    run_id: str | None = None
    source: str | None = None
    sequence: int | None = None


class _Envelope(Struct, gc=False):
    type: Any = None
    run_id: Any = None
    source: Any = None
    sequence: Any = None


class _NotAnEventError(ValueError):
    """Decoded, and yet no event: the message says why."""


class Codec:
    """Encodes and decodes one set of event types. Raises BrokenChain where an old version of them leads nowhere."""

    def __init__(
        self, event_types: Sequence[type[Event]] = EVENT_TYPES, *, upcasters: Sequence[Upcaster] = UPCASTERS
    ) -> None:
        check_chain(event_types, upcasters)
        structs = (*event_types, *(step.old for step in upcasters))
        self._tags = frozenset(map(tag_of, structs))
        self._decode = self.read = msgspec.msgpack.Decoder(Union[structs]).decode  # noqa: UP007 - a union of a tuple
        self._decode_envelope = msgspec.msgpack.Decoder(_Envelope).decode
        self._decode_json_envelope = msgspec.json.Decoder(_Envelope).decode
        self._decode_object = msgspec.msgpack.Decoder(dict[str, Any]).decode
        self._decode_json_object = msgspec.json.Decoder(dict[str, Any]).decode
        self._encode = msgspec.msgpack.Encoder().encode
        self._encode_json = msgspec.json.Encoder().encode
        self._finish: dict[type, Callable[[Any], Event]] = {}
        for struct in event_types:
            if struct is RunRequiresAction:
                self._finish[struct] = _finish_action
            elif struct is LeanRunCreated:
                self._finish[struct] = check_lean
            elif struct is LeanRunRequiresAction:
                self._finish[struct] = check_lean_action
            elif names := _free_fields(struct):
                self._finish[struct] = _free_field_check(names)
        for step in upcasters:
            self._finish[step.old] = self._upcast_by(step.upcast)

    def encode(self, event: Event) -> bytes:
        """Encode as a MessagePack map. Raises ValueError or OverflowError for text or integers that have no bytes."""
        return self._encode(event)

    def encode_json(self, event: Event) -> bytes:
        """Encode as a JSON object. Raises ValueError for text that has no bytes; numbers that JSON lacks become null."""
        return self._encode_json(event)

    def decode(self, value: bytes | None) -> Event | Unknown | Malformed:
        """Decode either wire; never raises. None is a null value, such as compacted topics use for deletion."""
        try:
            if value[0] == _BRACE:  # type: ignore[index]  # None is dealt with below, where it costs nobody else
                return self._decode_json(value)  # type: ignore[arg-type]
            return self._decode_message(value)
        except UNREADABLE as error:
            return self._explain(value, error)

    def _decode_message(self, value: bytes | None) -> Event:
        event: Event = self._decode(value)  # type: ignore[arg-type]
        if not (event.id and event.occurred_at):
            raise _NotAnEventError(f"{'occurred_at' if event.id else 'id'} is required, and missing or empty")
        finish = self._finish.get(type(event))
        return event if finish is None else finish(event)

    def _decode_json(self, value: bytes) -> Event:
        return self._decode_message(self._encode(self._decode_json_object(value)))

    def _upcast_by(self, upcast: Callable[[Any], Event]) -> Callable[[Any], Event]:
        # Upcast and read again: no upcaster can bring in what the wire itself would refuse.
        return lambda event: self._decode_message(self._encode(upcast(event)))

    def _explain(self, value: bytes | None, error: BaseException) -> Event | Unknown | Malformed:
        """What to make of a value that could not be decoded at once: JSON with a preamble, nulls, unknown, malformed."""
        if value is None:
            return Malformed("null value (a tombstone)")
        if not value:
            return Malformed("empty value")
        if value[0] in _JSON_STARTS:
            text = value.removeprefix(_BYTE_ORDER_MARK).lstrip(b" \t\r\n")
            return self.decode(text) if text[:1] == b"{" else Malformed("neither a MessagePack map nor a JSON object")
        is_text = value[0] == _BRACE
        try:
            envelope = (self._decode_json_envelope if is_text else self._decode_envelope)(value)
        except UNREADABLE:
            return Malformed(_describe(error))
        origin = _run_id(envelope.run_id), _source(envelope.source), _sequence(envelope.sequence)
        if type(envelope.type) is not str:
            return Malformed("type is missing or no string", *origin)
        if envelope.type not in self._tags:
            return Unknown(envelope.type, *origin)
        try:
            event = self._without_nulls((self._decode_json_object if is_text else self._decode_object)(value))
        except UNREADABLE as second:
            return Malformed(_describe(second), *origin)
        # Not raised again: it would refer to itself, by way of a frame, and all callers' frames would stay with what they hold.
        return Malformed(_describe(error), *origin) if event is None else event

    def _without_nulls(self, fields: dict[str, Any]) -> Event | None:
        """The event, if leaving out nulls makes it one; None where there are none to leave out."""
        told = {name: item for name, item in fields.items() if item is not None}
        return None if len(told) == len(fields) else self._decode_message(self._encode(told))


def _describe(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, OverflowError):
        return "an integer beyond 64 bits"
    if isinstance(error, MemoryError):
        return "too large for the memory"
    return str(error)


def _run_id(value: Any) -> str | None:
    return value if type(value) is str and 1 <= len(value) <= 256 else None


def _source(value: Any) -> str | None:
    return value if type(value) is str and 1 <= len(value) <= 64 else None


def _sequence(value: Any) -> int | None:
    return value if type(value) is int and 1 <= value <= 2**53 else None


def _free_fields(struct: type[Event]) -> tuple[str, ...]:
    """The fields whose type leaves open what they hold, and the floats, which may be NaN."""
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    return tuple(field.name for field in info.fields if _is_free(field.type))


def _is_free(kind: inspect.Type) -> bool:
    match kind:
        case inspect.AnyType() | inspect.FloatType():
            return True
        case inspect.UnionType():
            return any(map(_is_free, kind.types))
        case inspect.ListType():
            return _is_free(kind.item_type)
        case inspect.DictType():
            return _is_free(kind.value_type)
        case _:
            return False


def _free_field_check(names: tuple[str, ...]) -> Callable[[Any], Event]:
    values_of = attrgetter(*names, "approximate")  # of one name alone it would give no tuple

    def finish(event: Event) -> Event:
        values = values_of(event)
        if any(values) and not are_json(values):
            at_fault = next(name for name in names if not are_json([getattr(event, name)]))
            raise _NotAnEventError(f"{at_fault} holds what JSON cannot express, or more than {MOST_NESTED} levels")
        return event

    return finish


def _finish_action(event: RunRequiresAction) -> Event:
    check_action(event.required_action)
    return event


_DEFAULT = Codec()
decode = _DEFAULT.decode
encode = _DEFAULT.encode
encode_json = _DEFAULT.encode_json
_LEAN = Codec(LEAN_EVENT_TYPES)
decode_lean = _LEAN.decode
"""As :func:`decode`, but events with free-form values come as :mod:`runfold_schemas.lean` has them: for the fold."""
read_lean = _LEAN.read
"""Decode MessagePack alone, half as long as :data:`decode_lean` takes: raises one of :data:`UNREADABLE` for anything else, and
leaves unchecked what types cannot say (that there are an id and a time, and that free-form values are JSON)."""
