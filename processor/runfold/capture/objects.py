"""JSON objects out of text, in whatever form they were saved: one or many, on a line each or spread over lines, in arrays.

All these forms are one: objects, with nothing between them but white space, commas and the brackets of arrays. What is
broken ends where a new object begins in a line of its own, so that one bad line costs one object.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

LARGEST_OBJECT = 256 * 2**20
"""Bytes of an object; a page of the API's lists is the largest there is, and an open brace must not fill the memory."""

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|["{}]')
_BETWEEN = b" \t\r\n,[]"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Found(NamedTuple):
    """An object, and the line it begins on."""

    line: int
    fields: dict[str, Any]


class Broken(NamedTuple):
    """Text that is no object, the line it begins on, and why."""

    line: int
    why: str


def objects(lines: Iterable[bytes]) -> Iterator[Found | Broken]:
    """The JSON objects in a text that comes by lines; holds one object at a time."""
    begun = _Begun()
    for number, line in enumerate(lines, 1):
        text = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
        whole = _whole(text, number) if not begun.text or text[:1] == b"{" else None
        if whole is not None and (not begun.text or _stands_alone(whole.fields)):
            yield from begun.give_up("another object begins before it ends")
            yield whole
        else:
            yield from begun.read(text, number)
    yield from begun.give_up("the text ends before it does")


class _Begun:
    """The object that is being read: its text so far, and how many braces of it are open."""

    def __init__(self) -> None:
        self.text = bytearray()
        self.line = self.depth = 0

    def reset(self) -> None:
        self.text.clear()
        self.line = self.depth = 0

    def read(self, text: bytes, number: int) -> Iterator[Found | Broken]:
        """Read one line, on from what has begun."""
        place = 0
        for token in _TOKEN.finditer(text):
            if token.group() == b'"' and self.depth:
                self.text += text[place:]
                yield from self.give_up(f"a text that begins in line {number} does not end there")
                return
            if token.group() == b"{":
                if not self.depth:
                    yield from _rest(text[place : token.start()], number)
                    self.line, place = number, token.start()
                self.depth += 1
            elif token.group() == b"}" and self.depth:
                self.depth -= 1
                if not self.depth:
                    yield self.end(text[place : token.end()])
                    place = token.end()
        if self.depth:
            self.text += text[place:]
            if len(self.text) > LARGEST_OBJECT:
                yield from self.give_up(f"after {LARGEST_OBJECT:,} bytes it has not ended")
        else:
            yield from _rest(text[place:], number)

    def end(self, text: bytes) -> Found | Broken:
        whole, line = bytes(self.text) + text, self.line
        self.reset()
        return _decoded(whole, line)

    def give_up(self, why: str) -> Iterator[Broken]:
        if self.text:
            yield Broken(self.line, f"an object begins here, and {why}")
        self.reset()


def _whole(text: bytes, number: int) -> Found | None:
    """The object that a line is by itself, but for a comma: the fast way through JSON Lines."""
    stripped = text.strip(b" \t\r\n,")
    if stripped[:1] != b"{" or stripped[-1:] != b"}":
        return None
    told = _decoded(stripped, number)
    return told if isinstance(told, Found) else None


def _stands_alone(fields: dict[str, Any]) -> bool:
    """Whether an object is no part of another: inside a Run nothing has an id and a status."""
    return fields.get("object") == "list" or {"id", "status"} <= fields.keys()


def _decoded(text: bytes, line: int) -> Found | Broken:
    try:
        return Found(line, _decode(text))
    except RecursionError:
        return Broken(line, "no JSON that can be read: nested too deeply")
    except ValueError as error:  # msgspec's own are among them
        return Broken(line, f"no JSON: {error}")


def _rest(text: bytes, line: int) -> Iterator[Broken]:
    """What stands between objects: nothing, or something that nobody can make sense of."""
    if rest := text.strip(_BETWEEN):
        yield Broken(line, f"no JSON object: {rest[:60].decode(errors='replace')!r}")
