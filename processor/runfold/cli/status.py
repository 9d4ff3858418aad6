"""``runfold status``: what is behind, stuck, missing or rejected, and whether anything is unhealthy."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Annotated

from cyclopts import Parameter

from runfold.cli.exits import DONE, NO
from runfold.cli.opening import reading_log, reading_store
from runfold.cli.options import HERE, AsOneObject, Every, Places
from runfold.cli.printing import output, print_facts, print_json, print_line, print_table, shown_time
from runfold.cli.status_report import PartitionReport, Report, WorkerReport, report
from runfold.config import Settings
from runfold.log.clock import wall_clock
from runfold.log.port import LogSource
from runfold.store.port import Store

_PARTITION = (
    "partition",
    "position",
    "end",
    "lag",
    "lag s",
    "blocked",
    "owner",
    "takeovers",
    "committed (UTC)",
    "outcomes",
)
_WORKER = ("worker", "state", "silent s", "since (UTC)", "partitions")


def status(
    *,
    watch: Annotated[bool, Parameter(help="Look again and again, until interrupted.")] = False,
    every: Every = 1.0,
    json: AsOneObject = False,
    places: Places = HERE,
) -> int:
    """Where every partition stands, what the runs are doing, and what is wrong.

    The exit code is 1 when something is unhealthy, such as records that wait while nobody folds them.
    """
    settings = places.settings()
    if watch:
        asyncio.run(_watch(settings, every=every, json=json))
        return DONE
    found = asyncio.run(_look(settings))
    _show(found, json=json)
    return DONE if found.healthy else NO


async def _look(settings: Settings) -> Report:
    async with reading_store(settings) as store, reading_log(settings) as source:
        return await _report(source, store, settings)


async def _report(source: LogSource, store: Store, settings: Settings) -> Report:
    return await report(source, store, rules=settings.rules, now=wall_clock(), stuck=settings.stuck)


async def _watch(settings: Settings, *, every: float, json: bool) -> None:
    async with reading_store(settings) as store, reading_log(settings) as source:
        while True:
            found = await _report(source, store, settings)
            if json:
                print_json(found)
            elif output().is_terminal:
                output().clear()
                _show(found, json=False)
            else:
                _show_in_lines(found)
            await asyncio.sleep(every)


def _show_in_lines(found: Report) -> None:
    """What matters in a line, and a line for each thing that is wrong: for a file, where nothing can be drawn anew."""
    waits = [part.lag_seconds for part in found.partitions if part.lag_seconds is not None]
    behind = f"lag {sum(part.lag for part in found.partitions):,}" + (f" ({max(waits):.1f} s)" if waits else "")
    letters = f"{sum(found.dead_letters.values()):,} dead letters"
    state = "healthy" if found.healthy else "unhealthy"
    print_line(f"{shown_time(wall_clock())}  {state}  {behind}  {sum(found.runs.values()):,} runs  {letters}")
    for line in found.unhealthy:
        print_line(f"unhealthy: {line}")
    sys.stdout.flush()


def _show(found: Report, *, json: bool) -> None:
    if json:
        print_json(found)
        return
    print_table(_PARTITION, map(_row, found.partitions))
    print_line("")
    if found.workers:
        print_table(_WORKER, map(_worker_row, found.workers))
        print_line("")
    print_facts(
        (
            ("runs", _counts(found.runs) or "none yet"),
            ("without created", found.without_created),
            ("events missing", found.missing),
            ("flagged", found.flagged),
            ("split", found.split),
            ("ended without usage", found.without_usage),
            ("dead letters", _counts(found.dead_letters) or "none"),
            ("of them", f"{found.readable:,} readable by now, {found.discarded:,} discarded"),
        )
    )
    print_line("")
    for line in _decided(found):
        print_line(line)
    for line in found.unhealthy:
        print_line(f"unhealthy: {line}")
    for line in found.remarks:
        print_line(f"remark: {line}")
    if found.healthy:
        print_line("healthy")


def _row(found: PartitionReport) -> tuple[object, ...]:
    return (
        found.partition,
        str(found.position),
        str(found.end),
        found.lag,
        found.lag_seconds,
        f"{found.held_back:,} by a transaction" if found.held_back else None,
        found.owner,
        found.takeovers,
        shown_time(found.committed_at),
        _counts(found.outcomes),
    )


def _worker_row(found: WorkerReport) -> tuple[object, ...]:
    held = ", ".join(map(str, found.partitions)) or "none"
    return (found.owner, "alive" if found.alive else "silent", found.silent_seconds, shown_time(found.since), held)


def _decided(found: Report) -> Iterator[str]:
    """What people, or the service in their stead, have decided about the log."""
    for aside in found.set_aside:
        where = f"partition {aside.partition}, offset {aside.offset}"
        yield f"set aside: {where}: {aside.reason} ({shown_time(aside.noted_at)} UTC)"
    for lost in found.lost_ranges:
        if lost.accepted_at is not None:
            where = f"partition {lost.partition}, offsets {lost.begin} to {lost.end - 1}"
            noticed, accepted = shown_time(lost.noticed_at), shown_time(lost.accepted_at)
            yield f"lost range: {where}, noticed at {noticed}, accepted at {accepted} UTC"
    for growth in found.growths:
        what = f"from {growth.before} to {growth.partitions} partitions, with {growth.open_runs:,} open runs"
        yield f"grown: {what}, accepted at {shown_time(growth.accepted_at)} UTC"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
