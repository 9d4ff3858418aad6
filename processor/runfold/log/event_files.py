"""Events as people keep them in files: JSON Lines, or MessagePack maps one behind the other; the first byte tells which.

Bytes go in as they come, entries with their places come out, and each entry is checked as the publisher will check it.
What the publisher completes (``id``, ``occurred_at``, ``source``, ``sequence``) may be left out here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, BinaryIO

import msgspec
from msgspec import Struct, structs

from runfold.log.checking import MOST_BYTES, InvalidEvent, checked_bytes
from runfold.log.message_frames import LONGEST, BrokenFrameError, frame_end
from runfold_schemas import Event, Malformed, Unknown, decode

BLOCK = 1 << 20
"""Bytes read at a time; of a pipe what is there, so that events which trickle in are not kept waiting."""

_MAP_STARTS = frozenset((*range(0x80, 0x90), 0xDE, 0xDF))
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_TOO_LONG = f"longer than {LONGEST:,} bytes; what follows cannot be read"
_LONGEST_ID = "0" * 36
_LONGEST_SOURCE = "x" * 64
_decode_json = msgspec.json.Decoder(dict[str, Any]).decode
_decode_message = msgspec.msgpack.Decoder(dict[str, Any]).decode


class Entry(Struct, frozen=True):
    """An event, or what is wrong with it, and where it stands: ``line 7``, or ``event 7 (byte 1234)``."""

    place: str
    found: Event | str


def read_entries(
    blocks: Iterable[bytes], *, clock: Callable[[], int], largest: int = MOST_BYTES
) -> Iterator[list[Entry]]:
    """The entries of a file, those of a block at a time. ``clock`` gives Unix milliseconds; ``largest`` is bytes of an event.

    The clock is read for each block: what comes through a pipe may come for days.
    """
    blocks = iter(blocks)
    first = next(blocks, b"")
    split = _messages if first[:1] and first[0] in _MAP_STARTS else _lines
    for pieces in split(chain([first], blocks)):
        now = clock()
        entries = [
            Entry(place, value if isinstance(value, str) else event_of(value, now=now, largest=largest))
            for place, value in pieces
        ]
        if entries:
            yield entries


def blocks_of(file: BinaryIO) -> Iterator[bytes]:
    """What is in a file, without waiting for more than there is."""
    read = getattr(file, "read1", file.read)
    while block := read(BLOCK):
        yield block


def event_of(value: bytes, *, now: int, largest: int = MOST_BYTES) -> Event | str:
    """The event in these bytes, or what is wrong with it; what the publisher fills in stays empty."""
    told = decode(value)
    left_out: dict[str, Any] = {}
    if isinstance(told, Malformed):
        told, left_out = decode_with_fillings(value, now) or (told, {})
    if isinstance(told, Unknown):
        return f"this version knows no event of type {told.type!r}"
    if isinstance(told, Malformed):
        return told.detail
    numbering = {"source": _LONGEST_SOURCE, "sequence": 2**53} if told.source is None and told.sequence is None else {}
    try:
        checked_bytes(structs.replace(told, **numbering), now, largest=largest)
    except InvalidEvent as error:
        return str(error)
    return structs.replace(told, **left_out)


def decode_with_fillings(value: bytes, now: int) -> tuple[Event | Unknown | Malformed, dict[str, Any]] | None:
    """Decode with an id and a time where there are none; also what has to be emptied again. None where that is no help."""
    fields = _fields_of(value)
    if fields is None:
        return None
    left_out = {name: empty for name, empty in (("id", ""), ("occurred_at", 0)) if fields.get(name) in (None, empty)}
    if not left_out:
        return None
    fillings = {"id": _LONGEST_ID, "occurred_at": now}
    filled = fields | {name: fillings[name] for name in left_out}
    try:
        encoded = msgspec.msgpack.encode(filled)
    except (
        OverflowError,
        ValueError,
        RecursionError,
    ):  # JSON goes further than MessagePack: that is what is wrong with it
        return None
    return decode(encoded), left_out


def _fields_of(value: bytes) -> dict[str, Any] | None:
    try:
        if value[:1] == b"{":
            return _decode_json(value)
        return _decode_message(value)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


_Piece = tuple[str, bytes | str]


def _lines(blocks: Iterator[bytes]) -> Iterator[list[_Piece]]:
    """Lines with their numbers; blank ones are passed over, and those that are no objects named."""
    number, rest = 0, b""
    for block in blocks:
        *lines, rest = (rest + block).split(b"\n")
        if len(rest) > LONGEST:
            yield [*_numbered(lines, number), (f"line {number + len(lines) + 1}", _TOO_LONG)]
            return
        yield list(_numbered(lines, number))
        number += len(lines)
    yield list(_numbered([rest], number))


def _numbered(lines: list[bytes], number: int) -> Iterator[_Piece]:
    for place, line in enumerate(lines, number + 1):
        text = (line.removeprefix(_BYTE_ORDER_MARK) if place == 1 else line).strip()
        if text:
            yield f"line {place}", text if text[:1] == b"{" else "no JSON object"


def _messages(blocks: Iterator[bytes]) -> Iterator[list[_Piece]]:
    """MessagePack values with their numbers and first bytes. What is behind a broken one cannot be read."""
    number, offset, rest = 0, 0, b""
    for block in blocks:
        data, begin = rest + block, 0
        pieces: list[_Piece] = []
        try:
            while (end := frame_end(data, begin)) is not None and begin < len(data):
                number += 1
                pieces.append((f"event {number} (byte {offset + begin})", data[begin:end]))
                begin = end
            broken = _TOO_LONG if len(data) - begin > LONGEST else None
        except BrokenFrameError as error:
            broken = f"{error}; what follows cannot be read"
        if broken:
            yield [*pieces, (f"event {number + 1} (byte {offset + begin})", broken)]
            return
        yield pieces
        offset, rest = offset + begin, data[begin:]
    if rest:
        yield [(f"event {number + 1} (byte {offset})", "it is cut off: the file ends inside of it")]
