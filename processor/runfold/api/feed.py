"""``GET /v1/runfold/feed``: the latest state of each Run that changes, as server-sent events.

Where a reader stands is a vector of log positions, told with every event as its id: all states up to it have been given, none
that is newer is needed to go on from it. So any server can go on, after any break, by ``Last-Event-ID`` alone.
"""

from __future__ import annotations

from typing import Annotated, Final

from litestar import Router, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter, QueryParameter
from litestar.types import ASGIApp
from msgspec import Struct

from runfold.api import vector
from runfold.api.api import Api
from runfold.api.documented import answers
from runfold.api.errors import ApiError, BadRequest
from runfold.api.feed_stream import Stream, Wanted
from runfold.api.given import GivenApi, GivenCaller
from runfold.api.vector import Vector
from runfold_schemas.run import RunStatus, StatusName

BEGINNING: Final = "beginning"


class Gone(ApiError):
    """410: the log no longer has what lies behind this position."""

    status, type = 410, "invalid_request_error"


class FeedEvent(Struct, frozen=True, kw_only=True):
    """One event: ``thread.run.STATUS``, its data the Run as JSON, its id where to go on behind it."""

    id: str
    event: str
    data: str


_EVENTS: Final = ResponseSpec(
    FeedEvent,
    description="Events, and now and then an id alone: where the reader stands while nothing happens",
    media_type="text/event-stream",
    generate_examples=False,
)


@get(
    "/feed",
    operation_id="followRuns",
    summary="Follow Runs as they change",
    opt={"confined": True},
    responses={**answers(str, "", 410), 200: _EVENTS},
)
async def follow(
    *,
    api: GivenApi,
    caller: GivenCaller,
    last_event_id: Annotated[
        str | None, HeaderParameter(name="Last-Event-ID", description="Where another stream ended: its last id")
    ] = None,
    after: Annotated[
        str | None,
        QueryParameter(description="As Last-Event-ID, which goes before; or `beginning`: all that the log still has"),
    ] = None,
    run_id: Annotated[str | None, QueryParameter(description="Only this run")] = None,
    thread_id: Annotated[str | None, QueryParameter(description="Only runs of this thread")] = None,
    project_id: Annotated[str | None, QueryParameter(description="Only runs of this project")] = None,
    status: Annotated[StatusName | None, QueryParameter(description="Only runs that have come to this status")] = None,
    ends: Annotated[bool, QueryParameter(description="End once all is told that was folded when it was asked")] = False,
) -> ASGIApp:
    """The latest state of each changed Run, in the log's order per partition; from now on, or from where it is told."""
    wanted = Wanted(
        run_id=run_id,
        thread_id=thread_id,
        projects=frozenset(one for one in (project_id, caller.project_id) if one is not None),
        status=None if status is None else RunStatus[status.upper()].value,
    )
    begin = await _begin(api, last_event_id, after)
    return Stream(api, wanted, begin, ends=ends)


async def _begin(api: Api, last_event_id: str | None, after: str | None) -> Vector:
    """Where to begin, checked against the log. Raises BadRequest; Gone where the log has lost what lies behind it."""
    now = {found.partition: found.position for found in await api.positions.look()}
    told, name = (last_event_id, "Last-Event-ID") if last_event_id else (after, "after")
    if not told:
        return now
    source = await api.log.source()
    held = await source.ranges(range(await source.partitions()))
    if told == BEGINNING:
        return {partition: each.begin for partition, each in held.items()}
    begin = {partition: each.begin for partition, each in held.items()} | vector.read(told, param=name)
    for partition, position in begin.items():
        if partition not in held or position > max(held[partition].end, now.get(partition, 0)):
            raise BadRequest(f"The log has no {partition}:{position}.", param=name, code="invalid_value")
        if position < held[partition].begin and position < now.get(partition, 0):
            raise Gone(
                f"The log no longer has {partition}:{position}: list the runs, and follow from that list's X-Runfold-Position.",
                param=name,
                code="position_gone",
            )
    return begin


router = Router("/v1/runfold", route_handlers=[follow], tags=["Feed"])
