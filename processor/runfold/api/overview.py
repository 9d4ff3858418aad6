"""How log, store and workers stand: what the console shows first, and `runfold status` shows in a terminal.

Counting runs by status is a sum over all of them: it is made now and then, and not while nobody looks.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Literal

import msgspec
from litestar import Response, Router, get
from msgspec import Struct

from runfold.api.api import Api
from runfold.api.documented import answers
from runfold.api.errors import JSON
from runfold.api.freshness import LOG_SECONDS, Freshness
from runfold.api.given import GivenApi, GivenCaller
from runfold.log.clock import wall_clock
from runfold.log.port import LogError, Range
from runfold.store.port import PartitionStatus
from runfold_schemas.run import RunStatus


class PartitionState(Struct, frozen=True, kw_only=True):
    """One partition. ``owner`` is the worker that folds it now; ``outcomes`` counts records since the store began.

    Times are in Unix milliseconds. ``begin``, ``end`` and ``lag`` are null while the log is out of reach.
    """

    partition: int
    begin: int | None
    end: int | None
    position: int
    lag: int | None
    owner: str | None
    committed_at: int | None
    outcomes: dict[str, int]


class Overview(Struct, frozen=True, kw_only=True):
    """``at`` is this machine's time, Unix milliseconds; ``runs`` are counted by status, some seconds ago at most."""

    at: int
    partitions: list[PartitionState]
    runs: dict[str, int]
    dead_letters: dict[str, int]
    runfold: Freshness | None
    object: Literal["runfold.status"] = "runfold.status"


_encode = msgspec.json.Encoder().encode


@get(
    "/status",
    operation_id="getStatus",
    summary="How log, store and workers stand",
    responses=answers(Overview, "How things stand"),
)
async def get_status(*, api: GivenApi, caller: GivenCaller) -> Response[Any]:
    """Partitions with their workers and lag, runs by status, dead letters by reason."""
    await api.counts.renew()
    counts = api.counts.value or {}
    now = wall_clock()
    known = await api.store.partitions()
    held = await _held(api)
    body = Overview(
        at=now,
        partitions=[_state(found, held.get(found.partition), now=now) for found in known],
        runs={status.wire: counts.get(status.wire, 0) for status in RunStatus},
        dead_letters=await api.store.count_letters(),
        runfold=api.freshness.told_to(caller),
    )
    return Response(_encode(body), media_type=JSON)


async def _held(api: Api) -> dict[int, Range]:
    with suppress(LogError, TimeoutError):
        async with asyncio.timeout(LOG_SECONDS):
            source = await api.log.source()
            return await source.ranges(range(await source.partitions()))
    return {}


def _state(found: PartitionStatus, held: Range | None, *, now: int) -> PartitionState:
    return PartitionState(
        partition=found.partition,
        begin=None if held is None else held.begin,
        end=None if held is None else held.end,
        position=found.position,
        lag=None if held is None else max(0, held.end - max(found.position, held.begin)),
        owner=found.owner if found.lease_until > now else None,
        committed_at=found.committed_at,
        outcomes=found.tally,
    )


router = Router("/v1/runfold", route_handlers=[get_status], tags=["Status"])
