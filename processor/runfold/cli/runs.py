"""``runfold runs``: the current Runs, as the store has them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

from cyclopts import App, Parameter
from msgspec import structs

from runfold.cli.exits import DONE, NoError
from runfold.cli.opening import reading_store
from runfold.cli.options import HERE, AsJson, AsOneObject, Every, Limit, Places
from runfold.cli.printing import print_facts, print_json, print_line, print_table, shown_time, tell
from runfold.cli.run_views import ROW, facts, flags_of, row
from runfold.config import Settings
from runfold.fold.outcome import Flag
from runfold.fold.projection import project
from runfold.fold.state import RunState, decode_state
from runfold.store.port import RunFilter, Store, StoredRun
from runfold_schemas import RunStatus
from runfold_schemas.run import StatusName

app = App(name="runs", help="List, get and watch Runs.", default_parameter=Parameter(negative=()))

_PAGE = 200


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Which:
    """Which runs to list."""

    status: Annotated[StatusName | None, Parameter(help="Only runs in this status.")] = None
    thread: Annotated[str | None, Parameter(help="Only runs of this thread.")] = None
    model: Annotated[str | None, Parameter(help="Only runs of this model.")] = None
    assistant: Annotated[str | None, Parameter(help="Only runs of this assistant.")] = None
    incomplete: Annotated[bool, Parameter(help="Only runs whose created has not come.")] = False
    missing: Annotated[bool, Parameter(help="Only runs of which a numbered event has not come.")] = False
    flagged: Annotated[bool, Parameter(help="Only runs that people should know something of.")] = False

    def wanted(self) -> RunFilter:
        """The same, as a store is asked."""
        return RunFilter(
            status=None if self.status is None else RunStatus[self.status.upper()].value,
            thread_id=self.thread,
            model=self.model,
            assistant_id=self.assistant,
            incomplete=self.incomplete or None,
            missing=self.missing or None,
            flagged=self.flagged or None,
        )


ALL = Which()


@app.command(name="list")
def list_runs(
    *,
    which: Which = ALL,
    after: Annotated[str | None, Parameter(help="Go on behind this run.")] = None,
    limit: Limit = 20,
    json: AsJson = False,
    places: Places = HERE,
) -> int:
    """List Runs, newest first."""
    asyncio.run(_list(places.settings(), which.wanted(), after=after, limit=limit, json=json))
    return DONE


@app.command
def get(run_id: str, /, *, json: AsOneObject = False, places: Places = HERE) -> int:
    """One Run, whole; with --json the Run and nothing else. Exit code 1 where there is none."""
    asyncio.run(_get(places.settings(), run_id, json=json))
    return DONE


@app.command
def watch(
    run_id: str,
    /,
    *,
    until_ended: Annotated[bool, Parameter(help="Leave when the run has ended.")] = False,
    every: Every = 0.25,
    json: AsJson = False,
    places: Places = HERE,
) -> int:
    """Show a Run whenever it changes, from now on; also one that is not there yet."""
    asyncio.run(_watch(places.settings(), run_id, until_ended=until_ended, every=every, json=json))
    return DONE


async def _list(settings: Settings, wanted: RunFilter, *, after: str | None, limit: int, json: bool) -> None:
    async with reading_store(settings) as store:
        if after is not None:
            wanted = _behind(wanted, (await _rows(store, after))[0][1])
        states = pages(store, wanted, limit=limit)
        if json:
            async for state in states:
                print_json(project(state))
            return
        shown = [state async for state in states]
    print_table(ROW, map(row, shown))
    if limit and len(shown) == limit:
        tell(f"the newest {limit:,}; --limit 0 shows all, --after {shown[-1].run_id} goes on")


async def pages(store: Store, wanted: RunFilter, *, limit: int) -> AsyncIterator[RunState]:
    """The wanted runs, read page by page. ``limit`` 0 is all of them."""
    left = limit or sys.maxsize
    while left:
        size = min(_PAGE, left)
        page = [decode_state(stored.body) for stored in await store.list_runs(structs.replace(wanted, limit=size))]
        for state in page:
            yield state
        if len(page) < size:
            return
        wanted = _behind(wanted, page[-1])
        left -= size


def _behind(wanted: RunFilter, state: RunState) -> RunFilter:
    return structs.replace(wanted, after=(state.created_at, state.run_id))


async def _rows(store: Store, run_id: str) -> list[tuple[StoredRun, RunState]]:
    """The run's rows, the one that speaks for it first. Raises NoError where there is none."""
    rows = [(stored, decode_state(stored.body)) for stored in await store.find_run(run_id)]
    if not rows:
        raise NoError(f"there is no run {run_id!r} in the store")
    return sorted(rows, key=lambda found: (found[1].flags & Flag.INCOMPLETE, found[0].partition))


async def _get(settings: Settings, run_id: str, *, json: bool) -> None:
    async with reading_store(settings) as store:
        rows = await _rows(store, run_id)
    if json:
        print_json(project(rows[0][1]))
    else:
        print_facts(facts(rows[0][1], partitions=[stored.partition for stored, _ in rows]))


async def _watch(settings: Settings, run_id: str, *, until_ended: bool, every: float, json: bool) -> None:
    seen: bytes | None = None
    async with reading_store(settings) as store:
        if not await store.find_run(run_id):
            tell(f"there is no run {run_id!r} yet")
        while True:
            if await store.find_run(run_id):
                stored, state = (await _rows(store, run_id))[0]
                if stored.body != seen:
                    seen = stored.body
                    _show(state, json=json)
                if until_ended and state.ended_at is not None:
                    return
            await asyncio.sleep(every)


def _show(state: RunState, *, json: bool) -> None:
    if json:
        print_json(project(state))
    else:
        tokens = "" if state.usage is None else f"  {state.usage.total_tokens:,} tokens"
        print_line(f"{shown_time(state.since)}  {RunStatus(state.status).wire}{tokens}  {flags_of(state)}".rstrip())
    sys.stdout.flush()
