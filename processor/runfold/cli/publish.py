"""``runfold publish``: events from a file or standard input into the log.

A file is read twice: nothing of it is sent before all of it has been checked. What can be read only once, a pipe or
standard input, is checked and sent by chunks, and the last line sent is named whenever it ends early.
"""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from cyclopts import Parameter, Token
from rich.progress import Progress

from runfold import wiring
from runfold.cli.event_files import Entry, blocks_of, read_entries
from runfold.cli.exits import WRONG_USE, WrongUseError
from runfold.cli.options import HERE, AsJson, InputFile, Places
from runfold.cli.printing import print_json, progress, tell
from runfold.cli.sending import Sender
from runfold.log.clock import wall_clock
from runfold.log.numbering import LONGEST_NAME
from runfold.log.sync_publisher import SyncPublisher


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


def publish(
    file: InputFile = "-",
    /,
    *,
    rate: Rate = None,
    source: Source = "runfold",
    json: AsJson = False,
    places: Places = HERE,
) -> int:
    """Publish events, as JSON Lines or as MessagePack maps one behind the other.

    What is left out of an event (id, occurred_at, source, sequence) is filled in. A file is checked whole before
    anything is sent; standard input is checked and sent by chunks.
    """
    settings = places.settings()
    with _opened(file) as (name, stream, size):
        if size is not None and not _check(name, stream, size):
            tell(f"{name}: nothing was sent")
            return WRONG_USE
        with SyncPublisher(lambda: wiring.open_sink(settings), source=source) as publisher:
            sender = Sender(publisher, rate=rate)
            code = _send(name, stream, size, sender)
    if json:
        print_json({"published": sender.sent, "positions": dict(sorted(sender.ends.items()))})
    return code


@contextmanager
def _opened(file: str) -> Iterator[tuple[str, BinaryIO, int | None]]:
    """The file's name, its bytes, and how many; None for what can be read only once."""
    if file == "-":
        yield "standard input", sys.stdin.buffer, None
        return
    try:
        with Path(file).open("rb") as stream:
            found = Path(file).stat()
            yield file, stream, found.st_size if stat.S_ISREG(found.st_mode) else None
    except OSError as error:
        if error.filename != file:
            raise
        raise WrongUseError(f"{file}: cannot be read: {error.strerror}") from error


def _check(name: str, stream: BinaryIO, size: int) -> bool:
    """Check a whole file and go back to its begin; False where something in it is wrong, which people are told."""
    right = True
    with progress("checking", of=size, unit="bytes") as bar:
        for entries in read_entries(_counted(stream, bar), now=wall_clock()):
            right = _is_right(name, entries) and right
    stream.seek(0)
    return right


def _is_right(name: str, entries: Sequence[Entry]) -> bool:
    wrong = [entry for entry in entries if isinstance(entry.found, str)]
    for entry in wrong:
        tell(f"{name}, {entry.place}: {entry.found}")
    return not wrong


def _send(name: str, stream: BinaryIO, size: int | None, sender: Sender) -> int:
    last = ""
    try:
        with progress("publishing", of=size, unit="bytes") as bar:
            for entries in read_entries(_counted(stream, bar), now=wall_clock()):
                if not _is_right(name, entries):
                    tell(f"{name}: nothing from {entries[0].place} on was sent; {_so_far(sender, last)}")
                    return WRONG_USE
                for piece in sender.pieces(entries):
                    sender.send([entry.found for entry in piece if not isinstance(entry.found, str)])
                    last = piece[-1].place
    except BaseException:
        tell(f"{name}: {_so_far(sender, last)}; whether more of it is in the log is not known")
        raise
    tell(f"{name}: {_so_far(sender, last)}")
    return 0


def _so_far(sender: Sender, last: str) -> str:
    if not sender.sent:
        return "0 events published"
    return f"{sender.sent:,} event{'s' if sender.sent > 1 else ''} published, the last is {last}"


def _counted(stream: BinaryIO, bar: Progress) -> Iterator[bytes]:
    for block in blocks_of(stream):
        yield block
        bar.advance(bar.task_ids[0], len(block))
