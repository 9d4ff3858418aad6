"""``runfold status``: what is behind, stuck, missing or rejected, and whether anything is unhealthy."""

from __future__ import annotations

import asyncio
from typing import Annotated

from cyclopts import Parameter

from runfold.cli.exits import DONE, NO
from runfold.cli.opening import reading_log, reading_store
from runfold.cli.options import HERE, AsOneObject, Every, Places
from runfold.cli.printing import output, print_facts, print_json, print_line, print_table, shown_time
from runfold.cli.status_report import PartitionReport, Report, report
from runfold.config import Settings
from runfold.log.clock import wall_clock


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
        return await report(source, store, rules=settings.rules, now=wall_clock())


async def _watch(settings: Settings, *, every: float, json: bool) -> None:
    async with reading_store(settings) as store, reading_log(settings) as source:
        while True:
            found = await report(source, store, rules=settings.rules, now=wall_clock())
            if not json and output().is_terminal:
                output().clear()
            _show(found, json=json)
            await asyncio.sleep(every)


def _show(found: Report, *, json: bool) -> None:
    if json:
        print_json(found)
        return
    print_table(
        ("partition", "position", "end", "lag", "lag s", "blocked", "owner", "committed (UTC)", "outcomes"),
        map(_row, found.partitions),
    )
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
        shown_time(found.committed_at),
        _counts(found.outcomes),
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
