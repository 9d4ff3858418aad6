"""``POST /v1/events``: events into the log, one or many, all of a request or none of it.

The answer comes when the log has them durably. Nothing is deduplicated on the way: an event that is sent again counts once
all the same, by its id, because the fold sees to that; events of one request that repeat an id are told. Nor is anything
numbered: an event keeps the ``source`` and ``sequence`` that it came with, or has none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Literal

import msgspec
from litestar import Request, Response, Router, post
from litestar.exceptions import HTTPException
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.status_codes import HTTP_202_ACCEPTED, HTTP_400_BAD_REQUEST, HTTP_413_REQUEST_ENTITY_TOO_LARGE
from msgspec import UNSET, Struct, UnsetType

from runfold.api.api import Api
from runfold.api.arrivals import Invalid, Valid, checked, values_in
from runfold.api.documented import answers
from runfold.api.errors import INVALID, JSON, BadRequest, ErrorDetail, TooLarge
from runfold.api.given import GivenApi
from runfold.api.manners import MEDIA
from runfold.log.clock import wall_clock
from runfold.log.port import Place

MOST_EVENTS: Final = 10_000
"""Of one request."""

_AT_A_TIME: Final = 500  # events checked before others have a turn


class Verdict(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one event: ``index`` is its place in the request, ``partition`` and ``offset`` that in the log.

    ``repeats`` is the index of an event of this request with the same run and id: the fold will count them as one. Where an
    event is invalid, ``field`` and ``reason`` say why; the others of that request are ``not_sent``.
    """

    index: int
    status: Literal["accepted", "invalid", "not_sent"]
    id: str | None = None
    run_id: str | None = None
    partition: int | None = None
    offset: int | None = None
    repeats: int | None = None
    field: str | None = None
    reason: str | None = None


class Accepted(Struct, frozen=True, kw_only=True):
    """The log has all events. ``position`` is, per partition, behind the last of them; ``wait_for`` is the same for reads."""

    data: list[Verdict]
    position: dict[str, int]
    wait_for: str
    object: Literal["list"] = "list"


class Refused(Struct, frozen=True, kw_only=True):
    """None was sent. ``data`` is there where some events are invalid, and not where the body cannot be read."""

    error: ErrorDetail
    data: list[Verdict] | UnsetType = UNSET


@dataclass
class _Events(Operation):
    """Says in the document what a body may be."""

    def __post_init__(self) -> None:
        one = Schema(type=OpenAPIType.OBJECT, description="An event: see the package runfold_schemas")
        many = Schema(one_of=[one, Schema(type=OpenAPIType.ARRAY, items=one, min_items=1, max_items=MOST_EVENTS)])
        self.request_body = RequestBody(
            content={media: OpenAPIMediaType(schema=many) for media in MEDIA}, required=True
        )


_encode = msgspec.json.Encoder().encode


@post(
    "/events",
    operation_id="publishEvents",
    summary="Publish events",
    opt={"scope": "publish"},
    status_code=HTTP_202_ACCEPTED,
    operation_class=_Events,
    responses={
        **answers(Accepted, "The log has them", 413, 415, status=HTTP_202_ACCEPTED),
        HTTP_400_BAD_REQUEST: ResponseSpec(
            Refused, description="Some are invalid; none was sent", generate_examples=False
        ),
    },
)
async def publish_events(*, request: Request[Any, Any, Any], api: GivenApi) -> Response[Any]:
    """One event or many, 10,000 at most: a JSON object, JSON Lines or an array; MessagePack maps or an array of them.

    All events are checked before any is sent. An `id` that is left out is made, an `occurred_at` is now; sending again is
    safe for events that came with an id. 413 says that the request is too large, 429 that the log is behind. Where the answer
    is 503 or 504 the fate of the events is unknown: send them again, with the same ids.
    """
    found = await _checked(await _body_of(request, api), largest=api.settings.rules.largest_value)
    valid = [one for one in found if isinstance(one, Valid)]
    if len(valid) < len(found):
        return Response(_encode(_refusal(found)), status_code=HTTP_400_BAD_REQUEST, media_type=JSON)
    places = await api.intake.send([one.message for one in valid])
    return Response(_encode(_acceptance(valid, places)), media_type=JSON)


async def _body_of(request: Request[Any, Any, Any], api: Api) -> bytes:
    try:
        return await request.body()
    except HTTPException as error:
        if error.status_code != HTTP_413_REQUEST_ENTITY_TOO_LARGE:
            raise
        most = api.settings.api.largest_body
        raise TooLarge(f"A request may have {most:,} bytes at most.", code="request_too_large") from error


async def _checked(body: bytes, *, largest: int) -> list[Valid | Invalid]:
    values = values_in(body)
    if not values:
        raise BadRequest("The body has no events.", code="no_events")
    if len(values) > MOST_EVENTS:
        raise TooLarge(f"A request may have {MOST_EVENTS:,} events at most.", code="too_many_events")
    now, remaining, found = wall_clock(), iter(values), list[Valid | Invalid]()
    while some := [checked(value, now=now, largest=largest) for value in islice(remaining, _AT_A_TIME)]:
        found += some
        if len(found) < len(values):
            await asyncio.sleep(0)
    return found


def _refusal(found: Sequence[Valid | Invalid]) -> Refused:
    verdicts = [
        Verdict(index=index, status="not_sent", id=one.id, run_id=one.run_id)
        if isinstance(one, Valid)
        else Verdict(index=index, status="invalid", run_id=one.run_id, field=one.field, reason=one.reason)
        for index, one in enumerate(found)
    ]
    invalid = [verdict for verdict in verdicts if verdict.status == "invalid"]
    first = invalid[0]
    detail = ErrorDetail(
        message=f"{len(invalid):,} of {len(found):,} events are invalid, none was sent. "
        f"The first is event {first.index}: {first.field}: {first.reason}.",
        type=INVALID,
        param=f"[{first.index}].{first.field}",
        code="invalid_events",
    )
    return Refused(error=detail, data=verdicts)


def _acceptance(valid: Sequence[Valid], places: Sequence[Place]) -> Accepted:
    first: dict[tuple[str, str], int] = {}
    position: dict[int, int] = {}
    verdicts = []
    for index, (one, (partition, offset)) in enumerate(zip(valid, places, strict=True)):
        same = first.setdefault((one.run_id, one.id), index)
        position[partition] = max(position.get(partition, 0), offset + 1)
        verdicts.append(
            Verdict(
                index=index,
                status="accepted",
                id=one.id,
                run_id=one.run_id,
                partition=partition,
                offset=offset,
                repeats=None if same == index else same,
            )
        )
    return Accepted(
        data=verdicts,
        position={str(partition): behind for partition, behind in sorted(position.items())},
        wait_for=",".join(f"{partition}:{behind}" for partition, behind in sorted(position.items())),
    )


router = Router("/v1", route_handlers=[publish_events], tags=["Events"])
