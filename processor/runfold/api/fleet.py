"""Runs across threads, and what only runfold knows of them: what is stuck, what is wanting, how a run came to be."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Response, Router, get
from litestar.params import FromPath, QueryParameter
from msgspec import Struct
from msgspec.structs import replace

from runfold.api.api import Api
from runfold.api.auth import Caller
from runfold.api.documented import answers
from runfold.api.errors import JSON, no_run
from runfold.api.freshness import Freshness
from runfold.api.given import GivenApi, GivenCaller
from runfold.api.pages import Cursor, Limit, Order, cursor_of, run_place
from runfold.api.positions import WAIT, WaitFor, WaitSeconds
from runfold.api.run_views import (
    HistoryRecord,
    KnownRun,
    StuckRun,
    history_record,
    known_run,
    listed_run,
    stuck_run,
)
from runfold.fold.state import decode_state
from runfold.fold.stuck import why_stuck
from runfold.log.clock import wall_clock
from runfold.replay.history import history
from runfold.store.port import RunFilter
from runfold_schemas.run import RunStatus, StatusName

_FARTHEST: Final = 2**53
_LOOKED_AT: Final = 1_000
"""Open runs that a page of stuck ones looks at, oldest first: the stuck ones are among the oldest."""

_encode = msgspec.json.Encoder().encode


class KnownRuns(Struct, frozen=True, kw_only=True):
    """A page of Runs across threads. One may come short, or empty, and go on: ``has_more`` says so."""

    data: list[KnownRun]
    has_more: bool
    next_cursor: str | None
    runfold: Freshness | None
    object: Literal["list"] = "list"


class StuckRuns(Struct, frozen=True, kw_only=True):
    """A page of stuck Runs, oldest first."""

    data: list[StuckRun]
    has_more: bool
    next_cursor: str | None
    runfold: Freshness | None
    object: Literal["list"] = "list"


class History(Struct, frozen=True, kw_only=True):
    """Every record of a run in the log, and what became of it."""

    data: list[HistoryRecord]
    runfold: Freshness | None
    object: Literal["list"] = "list"


@get(
    "/runs",
    operation_id="listAllRuns",
    summary="List Runs across threads",
    opt={"confined": True},
    responses=answers(KnownRuns, "A page of Runs"),
)
async def list_all_runs(
    *,
    api: GivenApi,
    caller: GivenCaller,
    status: Annotated[StatusName | None, QueryParameter(description="Only runs in this status")] = None,
    model: Annotated[str | None, QueryParameter(description="Only runs of this model")] = None,
    assistant_id: Annotated[str | None, QueryParameter(description="Only runs of this assistant")] = None,
    project_id: Annotated[str | None, QueryParameter(description="Only runs of this project")] = None,
    thread_id: Annotated[str | None, QueryParameter(description="Only runs of this thread")] = None,
    incomplete: Annotated[bool, QueryParameter(description="Only runs whose created has not come")] = False,
    missing: Annotated[bool, QueryParameter(description="Only runs of which a numbered event has not come")] = False,
    flagged: Annotated[bool, QueryParameter(description="Only runs that people should know something of")] = False,
    created_after: Annotated[
        int | None, QueryParameter(ge=0, le=_FARTHEST, description="Only runs created after this Unix second")
    ] = None,
    created_before: Annotated[
        int | None, QueryParameter(ge=0, le=_FARTHEST, description="Only runs created before this Unix second")
    ] = None,
    limit: Limit = 20,
    order: Annotated[Order, QueryParameter(description="By creation: newest first, or oldest first")] = "desc",
    cursor: Cursor = None,
    wait_for: WaitFor = None,
    wait_seconds: WaitSeconds = WAIT,
) -> Response[Any]:
    """Runs by status, model, assistant, project and age. What no index finds is looked for a little at a time."""
    await api.applied(wait_for, wait_seconds)
    wanted = RunFilter(
        status=None if status is None else RunStatus[status.upper()].value,
        model=model,
        assistant_id=assistant_id,
        project_id=project_id,
        thread_id=thread_id,
        incomplete=incomplete or None,
        missing=missing or None,
        flagged=flagged or None,
        limit=limit,
    )
    bounded = _between(wanted, after=created_after, before=created_before, order=order)
    page = await api.reading.runs(caller, _behind(bounded, cursor), read=decode_state)
    return _listed(api, caller, [listed_run(state) for state in page.states], page.next)


def _between(wanted: RunFilter, *, after: int | None, before: int | None, order: Order) -> RunFilter:
    """The filter with its walk begun and ended by times, in Unix seconds; both are left out themselves."""
    # Every id stands behind the empty text.
    oldest = None if after is None else (after + 1, "")
    newest = None if before is None else (before, "")
    if order == "asc":
        return replace(wanted, ascending=True, after=oldest, before=newest)
    return replace(wanted, after=newest, before=oldest)


def _behind(wanted: RunFilter, cursor: str | None) -> RunFilter:
    """The filter of the page at a cursor. Raises BadRequest."""
    place = run_place(cursor)
    return wanted if place is None else replace(wanted, after=place)


def _listed(api: Api, caller: Caller, rows: list[dict[str, Any]], following: tuple[int, str] | None) -> Response[Any]:
    told = {"object": "list", "data": rows, "has_more": following is not None, "next_cursor": cursor_of(following)}
    return Response(_encode({**told, "runfold": api.freshness.told_to(caller)}), media_type=JSON)


@get(
    "/runs/{run_id:str}",
    operation_id="getKnownRun",
    summary="All that is known of a Run",
    opt={"confined": True},
    responses=answers(KnownRun, "The Run, and what is known beside it"),
)
async def get_known_run(
    *,
    api: GivenApi,
    caller: GivenCaller,
    run_id: FromPath[str],
    wait_for: WaitFor = None,
    wait_seconds: WaitSeconds = WAIT,
) -> Response[Any]:
    """The Run with its timeline, flags, gaps, and its place in the log."""
    await api.applied(wait_for, wait_seconds)
    parts = await api.reading.parts(caller, run_id)
    if not parts:
        raise no_run(run_id)
    return Response(_encode(known_run(parts, run_id)), media_type=JSON)


@get(
    "/runs/{run_id:str}/history",
    operation_id="getHistory",
    summary="How a Run came to be",
    opt={"confined": True},
    responses=answers(History, "The run's records", 409),
)
async def get_history(*, api: GivenApi, caller: GivenCaller, run_id: FromPath[str]) -> Response[Any]:
    """Every record of the run in the log, what became of each, and what each changed."""
    mine = await api.reading.parts(caller, run_id)
    if caller.project_id is not None and not mine:
        raise no_run(run_id)
    entries = await history(await api.log.source(), api.store, api.settings.rules, run_id)
    if caller.project_id is not None:
        entries = [entry for entry in entries if entry.partition in mine]
    if not entries:
        raise no_run(run_id)
    return Response(
        _encode(
            {"object": "list", "data": list(map(history_record, entries)), "runfold": api.freshness.told_to(caller)}
        ),
        media_type=JSON,
    )


@get(
    "/stuck-runs",
    operation_id="listStuckRuns",
    summary="Open Runs that should have ended, or been heard of",
    opt={"confined": True},
    responses=answers(StuckRuns, "A page of stuck Runs"),
)
async def list_stuck_runs(
    *,
    api: GivenApi,
    caller: GivenCaller,
    silent: Annotated[
        float | None,
        QueryParameter(gt=0, le=_FARTHEST, description="Seconds of silence that are too many (RUNFOLD_API_SILENT)"),
    ] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Response[Any]:
    """Past their expires_at, or silent for too long, by this machine's clock. A view: no event is invented for them."""
    now, after = wall_clock(), run_place(cursor)
    wanted = RunFilter(open=True, ascending=True, limit=min(_LOOKED_AT, 10 * limit), after=after)
    page = await api.reading.runs(caller, wanted, read=decode_state)
    found, following = list[dict[str, Any]](), page.next
    for state in page.states:
        why = why_stuck(state, now=now, silent=api.settings.api.silent if silent is None else silent)
        if why:
            found.append(stuck_run(state, why, now=now))
        if len(found) == limit:
            following = (state.created_at, state.run_id)
            break
    return _listed(api, caller, found, following)


router = Router(
    "/v1/runfold",
    route_handlers=[list_all_runs, get_known_run, get_history, list_stuck_runs],
    tags=["Runs across threads"],
)
