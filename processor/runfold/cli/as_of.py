"""``runfold replay as-of``: a run, a list of runs, or usage, as it stood at a time or behind a record. Read-only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from runfold.cli.exits import DONE, NoError, WrongUseError
from runfold.cli.opening import reading_store, reading_whole_log
from runfold.cli.options import HERE, AsJson, AsOneObject, Limit, Places
from runfold.cli.pace import pace
from runfold.cli.printing import print_facts, print_json, print_table, shown_time, tell
from runfold.cli.retrying import usage_moves
from runfold.cli.run_views import ROW, facts, row
from runfold.cli.runs import ALL, Which, pages
from runfold.cli.text import counted
from runfold.cli.usage import AsCsv, Bucket, By, check_answer, minutes_of, print_usage, summed
from runfold.cli.when import At, From, Until
from runfold.cli.workspace import Workspace, workspace_of
from runfold.collector import LARGE_BATCHES, quieten_collector
from runfold.config import Settings
from runfold.fold.projection import project
from runfold.fold.state import RunState
from runfold.fold.usage import SUMS
from runfold.log.port import LogSource
from runfold.replay import as_of as replay
from runfold.replay.cut import Cut, cut_at_time, cut_behind
from runfold.replay.usage_as_of import Period, UsageAsOf, UsageChange, usage_as_of
from runfold.store.port import RunFilter, Store
from runfold.store.split import chosen
from runfold_schemas import RunStatus

app = App(
    name="as-of",
    help="""A run, a list of runs, or usage, as it stood at another time.

    A time is, in each partition, all that was published before it. `--offset PARTITION:OFFSET`, as history shows places, is
    just behind that record; partitions that are not named count to their end. The store answers where it can, else the log
    is folded again; which of them did is told.""",
    default_parameter=Parameter(negative=()),
)


def _places(texts: Sequence[str]) -> dict[int, int]:
    places: dict[int, int] = {}
    for text in texts:
        partition, _colon, offset = text.partition(":")
        if not (partition.isascii() and partition.isdigit() and offset.isascii() and offset.isdigit()):
            raise WrongUseError(f"--offset: {text!r} is no place in the log: PARTITION:OFFSET is wanted, as in 3:1200")
        if int(partition) in places:
            raise WrongUseError(f"--offset: partition {partition} is named twice: one place in each is wanted")
        places[int(partition)] = int(offset)
    return places


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class When:
    """The instant that is asked about."""

    at: At = None
    behind: Annotated[
        tuple[str, ...],
        Parameter(
            name="--offset",
            help="Just behind this record, PARTITION:OFFSET; once for each partition.",
            show_default=False,
        ),
    ] = ()

    async def cut(self, source: LogSource) -> Cut:
        """The same, as positions. Raises CutRefused where the log has no such place."""
        if self.behind:
            return await cut_behind(source, _places(self.behind))
        assert self.at is not None
        return await cut_at_time(source, self.at)

    def check(self) -> None:
        """Raise WrongUseError unless there is just one instant."""
        _places(self.behind)
        if (self.at is None) == (not self.behind):
            raise WrongUseError("one instant is wanted: --at TIME, or --offset PARTITION:OFFSET")


NOWHEN = When()


@app.command
def run(run_id: str, /, *, when: When = NOWHEN, json: AsOneObject = False, places: Places = HERE) -> int:
    """One Run, whole, as it stood. Exit code 1 where nothing was known of it then."""
    when.check()
    asyncio.run(_run(places.settings(), run_id, when=when, json=json))
    return DONE


@app.command
def runs(
    *,
    when: When = NOWHEN,
    which: Which = ALL,
    limit: Limit = 20,
    workspace: Workspace = None,
    json: AsJson = False,
    places: Places = HERE,
) -> int:
    """List Runs as they stood, newest first."""
    when.check()
    settings = places.settings()
    quieten_collector(LARGE_BATCHES)
    asyncio.run(
        _runs(settings, which.wanted(), when=when, limit=limit, json=json, folder=workspace_of(settings, workspace))
    )
    return DONE


@app.command
def usage(
    *,
    when: When = NOWHEN,
    by: By = (),
    bucket: Bucket = None,
    begin: From = None,
    end: Until = None,
    changes: Annotated[bool, Parameter(help="Not the sums, but each record that has changed them since.")] = False,
    from_log: Annotated[
        bool, Parameter(name="--from-log", help="Fold the log, even where the store could tell.")
    ] = False,
    workspace: Workspace = None,
    json: AsJson = False,
    as_csv: AsCsv = False,
    places: Places = HERE,
) -> int:
    """Usage of a period as it was known: March as known on 1 April is `--from 2026-03-01 --until 2026-04-01 --at 2026-04-01`.

    With --changes, what has come since: runs whose end was published later, and differences booked since (corrections).
    """
    when.check()
    check_answer(json=json, as_csv=as_csv)
    period = Period(*minutes_of(begin, end))
    settings = places.settings()
    quieten_collector(LARGE_BATCHES)
    folder = workspace_of(settings, workspace)
    found = asyncio.run(_usage(settings, when=when, period=period, folder=folder, from_log=from_log, json=json))
    if changes:
        _print_changes(found, json=json)
    else:
        print_usage(summed(found.rows, by=by, bucket=bucket), by, json=json, as_csv=as_csv)
    told = "" if found.changes is None else f"; {counted(len(found.changes), 'change')} since (--changes)"
    tell(f"as the {found.origin} tells{told}")
    return DONE


async def _run(settings: Settings, run_id: str, *, when: When, json: bool) -> None:
    async with reading_whole_log(settings) as source, reading_store(settings) as store:
        cut = await when.cut(source)
        parts = await replay.run_as_of(source, store, settings.rules, run_id=run_id, cut=cut)
    found = [_Placed(part.partition, part.state, part.origin) for part in parts if part.state is not None]
    if not found:
        raise NoError(f"nothing was known of a run {run_id!r} then")
    speaking = chosen(found)[run_id]
    if json:
        told = {"from": speaking.origin, "partition": speaking.partition, "position": cut[speaking.partition]}
        print_json({**told, "run": project(speaking.state)})
        return
    others = [part.partition for part in found if part is not speaking]
    print_facts(facts(speaking.state, partitions=[speaking.partition, *others]))
    tell(f"as the {speaking.origin} tells, before offset {cut[speaking.partition]} of partition {speaking.partition}")


@dataclass(frozen=True)
class _Placed:
    """A run's state in one partition, as the choice between several needs it."""

    partition: int
    state: RunState
    origin: replay.Origin

    @property
    def run_id(self) -> str:
        return self.state.run_id

    @property
    def flags(self) -> int:
        return self.state.flags


async def _runs(settings: Settings, wanted: RunFilter, *, when: When, limit: int, json: bool, folder: Path) -> None:
    async with reading_whole_log(settings) as source, reading_store(settings) as store:
        cut = await when.cut(source)
        listed, origin = None, "store"
        if await replay.reached(store, cut):
            listed = await _listed(store, wanted, limit=limit)
        if listed is None or not await replay.reached(store, cut):  # it went on while the list was read
            origin = "log"
            async with _then(settings, source, store, cut=cut, folder=folder, json=json) as then:
                listed = await _listed(then, wanted, limit=limit)
    if json:
        print_json(*map(project, listed))
    else:
        print_table(ROW, map(row, listed))
    tell(f"as the {origin} tells" + (f"; the newest {limit:,}, --limit 0 shows all" if len(listed) == limit else ""))


async def _listed(store: Store, wanted: RunFilter, *, limit: int) -> list[RunState]:
    return [state async for state in pages(store, wanted, limit=limit)]


@asynccontextmanager
async def _then(
    settings: Settings, source: LogSource, store: Store, *, cut: Cut, folder: Path, json: bool
) -> AsyncIterator[Store]:
    with pace("folding the log", json=json) as told:
        async with replay.folded_to(source, store, settings.rules, cut=cut, workspace=folder, progress=told) as then:
            yield then


async def _usage(
    settings: Settings, *, when: When, period: Period, folder: Path, from_log: bool, json: bool
) -> UsageAsOf:
    with pace("folding the log", json=json) as told:
        async with reading_whole_log(settings) as source, reading_store(settings) as store:
            return await usage_as_of(
                source,
                store,
                settings.rules,
                cut=await when.cut(source),
                period=period,
                workspace=folder,
                from_log=from_log,
                progress=told,
            )


def _print_changes(found: UsageAsOf, *, json: bool) -> None:
    if found.changes is None:
        raise NoError("the store has not come as far as that: nothing can have changed since")
    if json:
        print_json(*map(_change_as_dict, found.changes))
        return
    columns = ("place", "published (UTC)", "run", "what", "minute (UTC)", "model", "status", "change")
    print_table(columns, map(_change_row, found.changes))


def _change_as_dict(change: UsageChange) -> dict[str, Any]:
    told = {name: getattr(change, name) for name in ("kind", "partition", "offset", "timestamp", "run_id")}
    (moved,) = usage_moves({change.bucket: change.sums})
    return {**told, **moved}


def _change_row(change: UsageChange) -> tuple[object, ...]:
    bucket = change.bucket
    return (
        f"{change.partition}:{change.offset}",
        shown_time(change.timestamp if change.timestamp >= 0 else None),
        change.run_id,
        change.kind,
        shown_time(bucket.minute * 60_000),
        bucket.dimensions.model,
        RunStatus(bucket.status).wire,
        [f"{name} {number:+,}" for name, number in zip(SUMS, change.sums, strict=True) if number],
    )
