"""Runs of a thread, as OpenAI's clients ask for them: list and retrieve.

Both are answered by plain functions from values to bytes, which the framework's handlers and the short cut past its routing
(:mod:`runfold.api.short_cut`) share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Response, Router, get
from litestar.params import FromPath, QueryParameter
from msgspec import Struct

from runfold.api.api import Api
from runfold.api.auth import Caller
from runfold.api.documented import answers
from runfold.api.errors import JSON, BadRequest, no_run
from runfold.api.freshness import Freshness
from runfold.api.given import GivenApi, GivenCaller
from runfold.api.positions import WAIT, WaitFor, WaitSeconds
from runfold.api.reading import Place, place_of
from runfold.fold.projection import encodable, encode_run
from runfold.fold.state import ShownState, decode_shown
from runfold.store.port import RunFilter
from runfold_schemas.run import Run, RunStatus

Order = Literal["asc", "desc"]
MOST: Final = 100
POLL_AFTER: Final[dict[int, int]] = {RunStatus.QUEUED: 500, RunStatus.IN_PROGRESS: 500, RunStatus.CANCELLING: 500}
"""Milliseconds after which asking again is worth while; a run that stands still does not say."""


class RunList(Struct, frozen=True, kw_only=True):
    """A page of Runs. ``runfold`` says how fresh it is."""

    data: list[Run]
    first_id: str | None
    last_id: str | None
    has_more: bool
    runfold: Freshness | None
    object: Literal["list"] = "list"


class _Listed(Struct, frozen=True, kw_only=True):
    """As :class:`RunList`, of what is encoded as Runs."""

    object: str
    data: list[Any]
    first_id: str | None
    last_id: str | None
    has_more: bool
    runfold: Freshness | None


_encode = msgspec.json.Encoder().encode


async def retrieve(api: Api, caller: Caller, *, thread_id: str, run_id: str) -> tuple[bytes, dict[str, str]]:
    """A Run's body and the headers that go with it. Raises NotFound, also where the run is another thread's."""
    state = await api.reading.run(caller, run_id)
    if state is None or state.thread_id != thread_id:
        raise no_run(run_id)
    poll = POLL_AFTER.get(state.status)
    return encode_run(state), {} if poll is None else {"openai-poll-after-ms": str(poll)}


async def list_of_thread(
    api: Api, caller: Caller, *, thread_id: str, limit: int, order: Order, after: str | None, before: str | None
) -> bytes:
    """A page of the thread's Runs: those behind ``after`` and in front of ``before``, in ``order``.

    Raises BadRequest where either names no run of the thread.
    """
    wanted = RunFilter(
        thread_id=thread_id,
        limit=limit,
        ascending=order == "asc",
        after=await _cursor(api, caller, thread_id, name="after", run_id=after),
        before=await _cursor(api, caller, thread_id, name="before", run_id=before),
    )
    page = await api.reading.runs(caller, wanted, read=decode_shown)
    return encode_list(page.states, has_more=page.has_more, freshness=api.freshness.told_to(caller))


async def _cursor(api: Api, caller: Caller, thread_id: str, *, name: str, run_id: str | None) -> Place | None:
    if run_id is None:
        return None
    state = await api.reading.run(caller, run_id)
    if state is None or state.thread_id != thread_id:
        raise BadRequest(f"No run found with id '{run_id}' in this thread.", param=name, code="invalid_value")
    return place_of(state)


def encode_list(states: Sequence[ShownState], *, has_more: bool, freshness: Freshness | None) -> bytes:
    """A :class:`RunList` as JSON."""
    return _encode(
        _Listed(
            object="list",
            data=list(map(encodable, states)),
            first_id=states[0].run_id if states else None,
            last_id=states[-1].run_id if states else None,
            has_more=has_more,
            runfold=freshness,
        )
    )


@get(
    "/{thread_id:str}/runs",
    operation_id="listRuns",
    summary="List the Runs of a thread",
    opt={"confined": True},
    responses=answers(RunList, "A page of Runs"),
)
async def list_runs(
    *,
    api: GivenApi,
    caller: GivenCaller,
    thread_id: FromPath[str],
    limit: Annotated[int, QueryParameter(ge=1, le=MOST, description="How many")] = 20,
    order: Annotated[Order, QueryParameter(description="By creation: newest first, or oldest first")] = "desc",
    after: Annotated[str | None, QueryParameter(description="Go on behind this run")] = None,
    before: Annotated[str | None, QueryParameter(description="Stop in front of this run")] = None,
    wait_for: WaitFor = None,
    wait_seconds: WaitSeconds = WAIT,
) -> Response[Any]:
    """The thread's Runs, page by page; with both cursors, those between them."""
    await api.applied(wait_for, wait_seconds)
    body = await list_of_thread(api, caller, thread_id=thread_id, limit=limit, order=order, after=after, before=before)
    return Response(body, media_type=JSON)


@get(
    "/{thread_id:str}/runs/{run_id:str}",
    operation_id="getRun",
    summary="Retrieve a Run",
    opt={"confined": True},
    responses=answers(Run, "The Run"),
)
async def get_run(
    *,
    api: GivenApi,
    caller: GivenCaller,
    thread_id: FromPath[str],
    run_id: FromPath[str],
    wait_for: WaitFor = None,
    wait_seconds: WaitSeconds = WAIT,
) -> Response[Any]:
    """The Run as it stands."""
    await api.applied(wait_for, wait_seconds)
    body, headers = await retrieve(api, caller, thread_id=thread_id, run_id=run_id)
    return Response(body, media_type=JSON, headers=headers)


router = Router("/v1/threads", route_handlers=[list_runs, get_run], tags=["Runs"])
