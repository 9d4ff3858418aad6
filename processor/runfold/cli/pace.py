"""How long work says how it goes, on stderr: a bar on a terminal, plain lines elsewhere, JSON Lines for machines."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from runfold.cli.printing import tell
from runfold.replay.shadow import Progress as Told

_EVERY: Final = 2.0
"""Seconds between lines, where there is no bar."""


@contextmanager
def pace(what: str, *, json: bool) -> Iterator[Told]:
    """Gives a ``progress`` to whoever works inside: called with how many records are done, of how many."""
    if json or not sys.stderr.isatty():
        yield _Lines(what, json=json)
        return
    bar = _Bar(what)
    try:
        yield bar
    finally:
        bar.end()


class _Bar:
    """There while something is to be done: what is printed between two stretches of work finds an empty line."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._bar: Progress | None = None

    def __call__(self, done: int, total: int) -> None:
        if self._bar is None:
            rest = TimeRemainingColumn(elapsed_when_finished=True)
            columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), rest
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.add_task(self._what)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=done, total=total)
        if done >= total:
            self.end()

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class _Rate(ProgressColumn):
    """Records a second, of late."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f}/s")


class _Lines:
    """A line now and then, with the rate since the one before, and how long the rest takes at that rate."""

    def __init__(self, what: str, *, json: bool) -> None:
        self._what, self._json = what, json
        self._at, self._before = time.monotonic(), 0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._at < _EVERY and done < total:
            return
        rate = (done - self._before) / max(now - self._at, 1e-9)
        left = (total - done) / rate if rate > 0 else None
        self._at, self._before = now, done
        if self._json:
            line = {"event": "progress", "what": self._what, "done": done, "total": total, "rate": round(rate)}
            told = msgspec.json.encode(line | {"seconds_left": None if left is None else round(left)}).decode()
            print(told, file=sys.stderr, flush=True)  # noqa: T201 - progress goes to stderr
        else:
            rest = "" if left is None else f", {left:,.0f} s left"
            tell(f"{self._what}: {done:,} of {total:,} records, {rate:,.0f}/s{rest}")
