"""``runfold publish``: events from a file or standard input into the log.

A file is read twice: nothing of it is sent before all of it has been checked. What can be read only once, a pipe or
standard input, is checked and sent by chunks, and the last line sent is named whenever it ends early.
"""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from cyclopts import Parameter, Token
from msgspec import Struct
from rich.progress import Progress

from runfold import wiring
from runfold.cli.exits import WRONG_USE, WrongUseError
from runfold.cli.options import HERE, InputFile, Places
from runfold.cli.printing import print_json, progress, tell
from runfold.cli.sending import Sender
from runfold.cli.text import counted
from runfold.log.clock import wall_clock
from runfold.log.event_files import Entry, blocks_of, read_entries
from runfold.log.numbering import LONGEST_NAME

_MOST_TOLD = 10
"""So many problems of a file are spelled out; the rest is counted: it may not be a file of events at all."""


def _rate(_: Any, tokens: Sequence[Token]) -> float:
    text = tokens[0].value.removesuffix("/s")
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < 1e9:
        raise ValueError(f"{tokens[0].value!r} is no rate: a number of events a second is wanted, such as 500/s")
    return rate


def _source_name(_: Any, value: str) -> None:
    if not 1 <= len(value) <= LONGEST_NAME:
        raise ValueError(f"a name of 1 to {LONGEST_NAME} characters is wanted")


Rate = Annotated[float | None, Parameter(converter=_rate, n_tokens=1, help="Events a second, such as 500/s.")]
Source = Annotated[str, Parameter(validator=_source_name, help="Who publishes, for events that do not say.")]
AsCount = Annotated[
    bool,
    Parameter(name="--json", help="A JSON object on stdout: how many were published, and the positions behind them."),
]


def publish(
    file: InputFile = "-",
    /,
    *,
    rate: Rate = None,
    source: Source = "runfold",
    json: AsCount = False,
    places: Places = HERE,
) -> int:
    """Publish events, as JSON Lines or as MessagePack maps one behind the other.

    What is left out of an event (id, occurred_at, source, sequence) is filled in. A file is checked whole before
    anything is sent; standard input is checked and sent by chunks.
    """
    settings = places.settings()
    with _opened(file, largest=settings.rules.largest_value) as events:
        if events.size is not None and not _check(events):
            tell(f"{events.name}: nothing was sent")
            return WRONG_USE
        with wiring.open_sync_publisher(settings, source=source) as publisher:
            sender = Sender(publisher, rate=rate)
            code = _send(events, sender)
    if json:
        print_json({"published": sender.sent, "positions": dict(sorted(sender.ends.items()))})
    return code


class _Input(Struct, frozen=True):
    """What is published: its name, its bytes, how many (None for what can be read only once), and the largest event's."""

    name: str
    stream: BinaryIO
    size: int | None
    largest: int

    def entries(self, bar: Progress) -> Iterator[list[Entry]]:
        return read_entries(_counted(self.stream, bar), clock=wall_clock, largest=self.largest)


@contextmanager
def _opened(file: str, *, largest: int) -> Iterator[_Input]:
    if file == "-":
        yield _Input("standard input", sys.stdin.buffer, None, largest)
        return
    try:
        with Path(file).open("rb") as stream:
            found = Path(file).stat()
            yield _Input(file, stream, found.st_size if stat.S_ISREG(found.st_mode) else None, largest)
    except OSError as error:
        if error.filename != file:
            raise
        raise WrongUseError(f"{file}: cannot be read: {error.strerror}") from error


def _check(events: _Input) -> bool:
    """Check a whole file and go back to its begin; False where something in it is wrong, which people are told."""
    with progress("checking", of=events.size, unit="bytes") as bar:
        right = _tell_problems(events.name, chain.from_iterable(events.entries(bar)))
    events.stream.seek(0)
    return right


def _tell_problems(name: str, entries: Iterable[Entry]) -> bool:
    """Tell what is wrong with entries, the first ten of them; True where nothing is."""
    wrong = 0
    for entry in entries:
        if isinstance(entry.found, str):
            wrong += 1
            if wrong <= _MOST_TOLD:
                tell(f"{name}, {entry.place}: {entry.found}")
    if wrong > _MOST_TOLD:
        tell(f"{name}: and {counted(wrong - _MOST_TOLD, 'more problem')}")
    return not wrong


def _send(events: _Input, sender: Sender) -> int:
    last = ""
    try:
        with progress("publishing", of=events.size, unit="bytes") as bar:
            for entries in events.entries(bar):
                if not _tell_problems(events.name, entries):
                    tell(f"{events.name}: nothing from {entries[0].place} on was sent; {_so_far(sender, last)}")
                    return WRONG_USE
                for piece in sender.pieces(entries):
                    sender.send([entry.found for entry in piece if not isinstance(entry.found, str)])
                    last = piece[-1].place
    except BaseException:
        doubt = f"; whether {sender.in_doubt:,} more are in the log is not known" if sender.in_doubt else ""
        tell(f"{events.name}: {_so_far(sender, last)}{doubt}")
        raise
    tell(f"{events.name}: {_so_far(sender, last)}")
    return 0


def _so_far(sender: Sender, last: str) -> str:
    if not sender.sent:
        return "0 events published"
    return f"{counted(sender.sent, 'event')} published, the last is {last}"


def _counted(stream: BinaryIO, bar: Progress) -> Iterator[bytes]:
    for block in blocks_of(stream):
        yield block
        bar.advance(bar.task_ids[0], len(block))
