"""What verbs print: answers to stdout, as JSON Lines for machines and tables for people; all else to stderr.

Times are shown in UTC, and what is unknown is ``-`` in a table and null in JSON, never 0.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from runfold.cli.console import PipedConsole
from runfold.cli.text import escaped

UNKNOWN = "-"
_encode = msgspec.json.Encoder(decimal_format="number").encode
_WIDE = 240
"""Columns of a table that is written into a file: nothing is cut there for want of room."""


def print_json(*objects: Any) -> None:
    """One line of JSON for each object; ``msgspec.Raw`` is JSON already."""
    for found in objects:
        print(_encode(found).decode())  # noqa: T201 - stdout is where answers go


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, total: Sequence[object] = ()) -> None:
    """A table for people: numbers to the right, None as ``-``, a list in lines, ``total`` set apart below."""
    listed = [list(row) for row in rows]
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for place, name in enumerate(columns):
        numeric = any(isinstance(row[place], int | float | Decimal) for row in (*listed, total) if row)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in listed:
        table.add_row(*map(_cell, row))
    if total:
        table.add_section()
        table.add_row(*map(_cell, total), style="bold")
    output().print(table)


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Names and values, one pair a line."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(_cell(name), _cell(value))
    output().print(table)


def print_line(text: str) -> None:
    """A line of an answer, for people."""
    print(escaped(text))  # noqa: T201 - stdout is where answers go


def tell(text: str) -> None:
    """A line beside the answer: to stderr."""
    sys.stdout.flush()
    print(escaped(text), file=sys.stderr, flush=True)  # noqa: T201 - stderr is where remarks go


def output() -> Console:
    """The console on stdout; made anew, so that it follows what stdout is now."""
    return PipedConsole(highlight=False, soft_wrap=False, width=None if sys.stdout.isatty() else _WIDE)


def progress(what: str, *, of: int | None = None, unit: str = "records") -> Progress:
    """A progress bar on stderr with one task, for ``with``; it shows nothing where stderr is no terminal."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    bar.add_task(what, total=of)
    return bar


class _Rate(ProgressColumn):
    """How many a second, of late."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


def shown_time(milliseconds: int | None) -> str | None:
    """A time in Unix milliseconds as people read it: UTC, to the second."""
    return None if milliseconds is None else shown_seconds(milliseconds // 1000)


def shown_seconds(seconds: int | None) -> str | None:
    """A time in Unix seconds as people read it; the bare number where no calendar has it."""
    if seconds is None:
        return None
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def shown_json(value: Any) -> str | None:
    """A free-form value in one line; None where there is nothing in it."""
    return msgspec.json.encode(value).decode() if value else None


def _cell(value: object) -> Text:
    """Text as it is: what publishers wrote is not read as markup or a terminal's codes, nor does it begin another line.

    A list has a line for each of its texts.
    """
    if value is None or value in ("", []):
        return Text(UNKNOWN, style="dim")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, int):
        return Text(f"{value:,}")
    if isinstance(value, Decimal):
        return Text(f"{value:,f}")
    if isinstance(value, float):
        return Text(f"{value:,.1f}")
    lines = value if isinstance(value, list) else [str(value)]
    return Text("\n".join(map(escaped, lines)))
