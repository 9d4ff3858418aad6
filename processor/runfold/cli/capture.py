"""``runfold capture``: what recorded streams and Run objects prove, as events, into the log or onto stdout."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from msgspec import Raw

from runfold import wiring
from runfold.capture import Captured, Finished, Problem
from runfold.capture import capture as captured_from
from runfold.cli.exits import DONE, NO, WrongUseError
from runfold.cli.options import HERE, InputFile, Places
from runfold.cli.printing import print_json, tell
from runfold.cli.sending import PIECE, Sender
from runfold.cli.text import counted
from runfold.log.checking import InvalidEvent
from runfold_schemas import Event, encode_json

Kind = Annotated[
    Literal["sse", "runs"],
    Parameter(help="sse: recorded server-sent streams; runs: Run objects as JSON, JSON Lines or arrays."),
]
AsCounts = Annotated[
    bool, Parameter(name="--json", help="A JSON object on stdout: how many events, ignored things and problems.")
]
Print = Annotated[bool, Parameter(name="--print", help="Print the events instead of publishing them.")]


def capture(
    kind: Kind, /, *files: InputFile, print_: Print = False, json: AsCounts = False, places: Places = HERE
) -> int:
    """Turn recorded server-sent streams, or Run objects, into events: into the log, or --print.

    The same input twice changes nothing. What cannot be understood is named with its file and line, the rest goes on,
    and the exit code is 1. Where a file cannot be read at all nothing is captured, and the exit code is 2.
    """
    _check_readable(files)
    settings = places.settings()
    with ExitStack() as resources:
        if print_:
            send = _print
        else:
            publisher = resources.enter_context(wiring.open_sync_publisher(settings, source="capture"))
            send = Sender(publisher).send
        intake = _Intake(send)
        for found in captured_from(files or ("-",), kind, stdin=sys.stdin.buffer):
            intake.take(found)
        intake.flush()
    if json and not print_:
        print_json({"events": intake.events, "ignored": intake.ignored, "problems": intake.problems})
    tell(f"{counted(intake.events, 'event')}, {intake.ignored:,} ignored, {counted(intake.problems, 'problem')}")
    return NO if intake.problems else DONE


def _check_readable(files: Sequence[str]) -> None:
    """Raise WrongUseError that names every file that cannot be read. None is opened: a pipe can be opened only once."""
    reasons = {name: _unreadable(Path(name)) for name in files if name != "-"}
    if problems := [f"{name}: cannot be read: {os.strerror(code)}" for name, code in reasons.items() if code]:
        raise WrongUseError("\n".join(problems))


def _unreadable(path: Path) -> int:
    """Why a file cannot be read, as the system's error number; 0 where it can."""
    try:
        if path.is_dir():
            return errno.EISDIR
        path.stat()
    except OSError as error:
        return error.errno or errno.EIO
    return 0 if os.access(path, os.R_OK) else errno.EACCES


def _print(events: Sequence[Event]) -> None:
    print_json(*(Raw(encode_json(event)) for event in events))


class _Intake:
    """Counts what was found, and sends events by the thousand; all those of one Run body, or none."""

    def __init__(self, send: Callable[[Sequence[Event]], None]) -> None:
        self._send = send
        self._waiting: list[Captured] = []
        self._size = 0
        self.events = self.ignored = self.problems = 0

    def take(self, found: Captured | Problem | Finished) -> None:
        if isinstance(found, Problem):
            self._complain(found)
        elif isinstance(found, Finished):
            self.ignored += found.passed_over
        else:
            self._waiting.append(found)
            self._size += len(found.events)
            if self._size >= PIECE:
                self.flush()

    def flush(self) -> None:
        """Send what waits. Where some of it is refused, the bodies are sent one by one: the refused ones are named."""
        waiting, self._waiting, self._size = self._waiting, [], 0
        try:
            self._send_bodies(waiting)
        except InvalidEvent:
            for body in waiting:
                try:
                    self._send_bodies([body])
                except InvalidEvent as error:
                    self._complain(Problem(body.file, body.line, str(error)))

    def _send_bodies(self, bodies: Sequence[Captured]) -> None:
        events = [event for body in bodies for event in body.events]
        self._send(events)
        self.events += len(events)

    def _complain(self, problem: Problem) -> None:
        self.problems += 1
        tell(str(problem))
