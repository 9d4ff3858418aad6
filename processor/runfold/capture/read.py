"""Files to facts: what ``runfold capture`` does with what it is pointed at, a piece at a time and whatever is in it.

Two kinds are known, and a third would be added to ``KINDS``: ``sse`` is a recorded server-sent stream, ``runs`` are Run objects
as JSON. What cannot be understood is told with its file and line, and the rest goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from msgspec import Struct

from runfold.capture.objects import Broken, objects
from runfold.capture.problem import Problem
from runfold.capture.snapshot import snapshot
from runfold.capture.sse import Garbled, messages
from runfold_schemas import Event, RunStatus

LONGEST_LINE = 256 * 2**20
"""Bytes of a line: a whole array may stand in one, but it must not fill the memory. What is beyond is cut off."""

_RUN_EVENTS = frozenset(f"thread.run.{name}" for name in ("created", *(status.wire for status in RunStatus)))
_NO_DATA = (b"", b"[DONE]")
_decode = msgspec.json.Decoder().decode


class Captured(Struct, frozen=True):
    """The events of one Run body, in the order of the Run's life, and the line the body begins on."""

    file: str
    line: int
    events: list[Event]


class Finished(Struct, frozen=True):
    """A file was read to its end: how many Run bodies it had, and how many other things that were passed over."""

    file: str
    bodies: int
    passed_over: int


class Passed(Struct, frozen=True):
    """Something that is no Run and need not be: a step, a message, a delta, the mark of a stream's end."""


class Place(Struct, frozen=True):
    """Something found in a file, and where."""

    line: int
    found: dict[str, Any] | Passed | str


Reader = Callable[[Iterable[bytes]], Iterator[Place]]


def capture(
    paths: Iterable[str], kind: str, *, stdin: BinaryIO | None = None
) -> Iterator[Captured | Problem | Finished]:
    """What the files at ``paths`` prove; ``-`` is ``stdin``. Raises KeyError for a kind that is not in ``KINDS``."""
    reader = KINDS[kind]
    for path in paths:
        if path == "-" and stdin is not None:
            yield from _capture_file("standard input", reader, stdin)
            continue
        try:
            with Path(path).open("rb") as file:
                yield from _capture_file(path, reader, file)
        except OSError as error:
            yield Problem(path, 0, f"cannot be read: {error.strerror or error}")


def _capture_file(name: str, reader: Reader, file: BinaryIO) -> Iterator[Captured | Problem | Finished]:
    bodies = passed_over = 0
    for line, found in ((place.line, place.found) for place in reader(_lines(file))):
        if isinstance(found, Passed):
            passed_over += 1
        elif isinstance(found, str):
            yield Problem(name, line, found)
        else:
            bodies += 1
            told = snapshot(found)
            yield from (Problem(name, line, complaint) for complaint in told.complaints)
            if told.events:
                yield Captured(name, line, told.events)
    yield Finished(name, bodies, passed_over)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file. One that is too long comes as its beginning, which no reader takes for whole."""
    while line := file.readline(LONGEST_LINE):
        yield line
        while len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            line = file.readline(LONGEST_LINE)


def read_stream(chunks: Iterable[bytes]) -> Iterator[Place]:
    """The Run bodies of a recorded server-sent stream; steps, messages, deltas and ``[DONE]`` are passed over."""
    for message in messages(chunks):
        if isinstance(message, Garbled):
            yield Place(
                message.line, f"no line of a server-sent stream: {message.text[:60].decode(errors='replace')!r}"
            )
        elif message.data.strip() in _NO_DATA:
            yield Place(message.line, Passed())
        else:
            yield Place(message.line, _body_of(message.name, message.data))


def _body_of(name: str | None, data: bytes) -> dict[str, Any] | Passed | str:
    try:
        told = _decode(data)
    except (ValueError, RecursionError) as error:
        return f"the data of {name or 'a message without a name'} is no JSON: {error}"
    is_object = isinstance(told, dict)
    if is_object and (kind := told.get("object")) is not None:
        return told if kind == "thread.run" else Passed()
    if name not in _RUN_EVENTS:
        return Passed()
    return told if is_object else f"the data of {name} is no Run"


def read_runs(lines: Iterable[bytes]) -> Iterator[Place]:
    """The Run bodies in JSON text: single ones, one a line, arrays, and pages of the API's own lists."""
    for found in objects(lines):
        if isinstance(found, Broken):
            yield Place(found.line, found.why)
        elif found.fields.get("object") == "list":
            data = found.fields.get("data")
            entries = data if isinstance(data, list) else [data]
            yield from (Place(found.line, _run_of(entry)) for entry in entries)
        else:
            yield Place(found.line, _run_of(found.fields))


def _run_of(entry: Any) -> dict[str, Any] | str:
    if not isinstance(entry, dict):
        return f"no Run but {entry!r:.60}"
    if (kind := entry.get("object", "thread.run")) != "thread.run":
        return f"no Run but an object of type {kind!r:.60}"
    return entry


KINDS: dict[str, Reader] = {"sse": read_stream, "runs": read_runs}
