"""Events as they arrive over HTTP: what is in a body, and what each is worth. Nothing is numbered here.

A body is one event or many: a JSON object, JSON Lines or a JSON array; a MessagePack map, several behind one another, or an
array of them. Its first byte tells which. An event has to be what every reader can decode and the fold will not reject; an
``id`` and an ``occurred_at`` that are left out are filled in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
import uuid_utils
from msgspec import Struct
from msgspec.structs import replace

from runfold.api.errors import BadRequest
from runfold.log.checking import InvalidEvent, check_time, unreadable
from runfold.log.event_files import decode_with_fillings
from runfold.log.message_frames import BrokenFrameError, frame_end
from runfold.log.port import Message
from runfold_schemas import Event, Malformed, Unknown, decode, encode

_SPACE: Final = b" \t\r\n"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_MAPS: Final = frozenset((*range(0x80, 0x90), 0xDE, 0xDF))
_ARRAYS: Final = frozenset((*range(0x90, 0xA0), 0xDC, 0xDD))
_json_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_json_value = msgspec.json.Decoder(msgspec.Raw).decode
_message_array = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


class Valid(Struct, frozen=True):
    """An event that can be published, as the record that it will be."""

    run_id: str
    id: str
    message: Message


class Invalid(Struct, frozen=True):
    """What no reader would accept: which ``field``, and why; whose it is as far as can be read."""

    field: str
    reason: str
    run_id: str | None = None


def values_in(body: bytes) -> Sequence[bytes | msgspec.Raw | Invalid]:
    """The values of a body, in order. Raises BadRequest where it cannot be told where one ends and the next begins."""
    text = body.removeprefix(_BYTE_ORDER_MARK).lstrip(_SPACE)
    try:
        if text[:1] == b"[":
            return _json_array(text)
        if text[:1] == b"{":
            return _objects(text)
        if body[:1] and body[0] in _ARRAYS:
            return _message_array(body)
        if body[:1] and body[0] in _MAPS:
            return list(_maps(body))
    except (msgspec.DecodeError, RecursionError, BrokenFrameError) as error:
        raise BadRequest(f"The body cannot be read: {error}.", code="unreadable_body") from error
    raise BadRequest("The body has no events: JSON or MessagePack is wanted.", code="no_events")


def checked(value: bytes | msgspec.Raw | Invalid, *, now: int, largest: int) -> Valid | Invalid:
    """The event in a value, if there is one. ``now`` is in Unix milliseconds; ``largest`` is bytes of an event."""
    if isinstance(value, Invalid):
        return value
    told = decode(bytes(value))
    if isinstance(told, Malformed):
        told = _filled(bytes(value), now) or told
    if isinstance(told, Unknown):
        return Invalid("type", f"this version knows no event of type {told.type!r}", told.run_id)
    if isinstance(told, Malformed):
        problem = unreadable(told.detail)
        return Invalid(problem.field, problem.reason, told.run_id)
    encoded = encode(told)
    if len(encoded) > largest:
        return Invalid("event", f"takes {len(encoded):,} bytes; at most {largest:,} are allowed", told.run_id)
    try:
        check_time(told, now)
    except InvalidEvent as problem:
        return Invalid(problem.field, problem.reason, told.run_id)
    return Valid(told.run_id, told.id, Message(told.run_id.encode(), encoded))


def _filled(value: bytes, now: int) -> Event | Unknown | Malformed | None:
    """The event with what was left out; None where that is not what is wrong with it."""
    filled = decode_with_fillings(value, now)
    if filled is None:
        return None
    told, left_out = filled
    if "id" in left_out and not isinstance(told, Unknown | Malformed):
        return replace(told, id=str(uuid_utils.uuid7()))
    return told


def _objects(text: bytes) -> list[bytes | Invalid]:
    """One object, over however many lines; else JSON Lines."""
    try:
        _json_value(text)
    except (msgspec.DecodeError, RecursionError):
        lines = (line.strip(_SPACE) for line in text.split(b"\n"))
        return [line if line[:1] == b"{" else Invalid("event", "no JSON object") for line in lines if line]
    return [text]


def _maps(body: bytes) -> Iterator[bytes]:
    begin = 0
    while begin < len(body):
        end = frame_end(body, begin)
        if end is None:
            raise BrokenFrameError(f"it ends within the value that begins at byte {begin}")
        yield body[begin:end]
        begin = end
