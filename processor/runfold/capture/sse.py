"""Recorded server-sent streams, as people and tools really keep them: to the messages in them, each with its line.

The grammar is that of the HTML standard, read leniently: blank lines between messages may have got lost, the space after
the colon may be missing, line ends may be of any kind, the end may be cut off. Where a lost blank line leaves two ways to
read, the one that gives whole JSON values is taken. Nothing here knows what a Run is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

LARGEST_MESSAGE = 16 * 2**20
"""Bytes of a message's data; where more comes, blank lines are missing, and it must not fill the memory."""

_LINE_END = re.compile(rb"\r\n?|\n")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_IGNORED = {b"id", b"retry"}


class Message(NamedTuple):
    """One message: the line its data begins on, the event's name (None where it has none) and the data, undecoded."""

    line: int
    name: str | None
    data: bytes


class Garbled(NamedTuple):
    """A line that is no part of any message."""

    line: int
    text: bytes


def messages(chunks: Iterable[bytes]) -> Iterator[Message | Garbled]:
    """The messages of a stream that comes in pieces, each piece ending in a line feed but the last."""
    gathered = _Gathered()
    for number, line in enumerate(_lines(chunks), 1):
        if not line:
            yield from gathered.dispatch()
            continue
        field, colon, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data" and colon:
            if gathered.is_whole_before(value):
                yield from gathered.dispatch()
            gathered.add(number, value)
        elif field == b"event" and colon:
            if gathered.data:
                yield from gathered.dispatch()
            gathered.name = value.decode(errors="replace")
        elif field and not (colon and field in _IGNORED):
            yield Garbled(number, line)
    yield from gathered.dispatch()


class _Gathered:
    """The message that is being read."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.line = self.size = 0
        self.data: list[bytes] = []

    def add(self, line: int, data: bytes) -> None:
        self.line = self.line or line
        self.size += len(data)
        self.data.append(data)

    def is_whole_before(self, following: bytes) -> bool:
        """Whether ``following`` begins another message: inside one JSON value no brace opens right after one closed."""
        if not self.data:
            return False
        if self.size > LARGEST_MESSAGE:
            return True
        last = self.data[-1].rstrip()
        return last == b"[DONE]" or (last.endswith((b"}", b"]")) and following.lstrip()[:1] in (b"{", b"["))

    def dispatch(self) -> Iterator[Message]:
        if self.data:
            yield Message(self.line, self.name, b"\n".join(self.data))
        self.name, self.line, self.size, self.data = None, 0, 0, []


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for index, chunk in enumerate(chunks):
        text = chunk if index else chunk.removeprefix(_BYTE_ORDER_MARK)
        text = text.removesuffix(b"\n").removesuffix(b"\r")
        yield from _LINE_END.split(text) if b"\r" in text else (text,)
