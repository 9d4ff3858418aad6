"""``runfold capture``: what recorded streams and Run objects prove, as events, into the log or onto stdout."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Annotated, Literal

from cyclopts import Parameter

from runfold import wiring
from runfold.capture import Captured, Finished, Problem
from runfold.capture import capture as captured_from
from runfold.cli.exits import DONE, NO
from runfold.cli.options import HERE, AsJson, InputFile, Places
from runfold.cli.printing import print_json, print_line, tell
from runfold.cli.sending import PIECE, Sender
from runfold.log.checking import InvalidEvent
from runfold.log.sync_publisher import SyncPublisher
from runfold_schemas import Event, encode_json

Kind = Annotated[
    Literal["sse", "runs"],
    Parameter(help="sse: recorded server-sent streams; runs: Run objects as JSON, JSON Lines or arrays."),
]
Print = Annotated[bool, Parameter(name="--print", help="Print the events instead of publishing them.")]


def capture(
    kind: Kind, /, *files: InputFile, print_: Print = False, json: AsJson = False, places: Places = HERE
) -> int:
    """Turn recorded server-sent streams, or Run objects, into events: into the log, or --print.

    The same input twice changes nothing. What cannot be understood is named with its file and line, the rest goes on,
    and the exit code is 1.
    """
    settings = places.settings()
    with ExitStack() as resources:
        if print_:
            send = _print
        else:
            publisher = resources.enter_context(SyncPublisher(lambda: wiring.open_sink(settings), source="capture"))
            send = Sender(publisher).send
        intake = _Intake(send)
        for found in captured_from(files or ("-",), kind, stdin=sys.stdin.buffer):
            intake.take(found)
        intake.flush()
    if json and not print_:
        print_json({"events": intake.events, "ignored": intake.ignored, "problems": intake.problems})
    tell(f"{intake.events:,} events, {intake.ignored:,} ignored, {intake.problems:,} problems")
    return NO if intake.problems else DONE


def _print(events: Sequence[Event]) -> None:
    for event in events:
        print_line(encode_json(event).decode())


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
