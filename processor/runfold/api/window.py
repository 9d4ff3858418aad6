"""What reports are asked for by: the parameters of OpenAI's usage API, and the buckets of the page that they come to.

A minute belongs to the period in which it begins, so a start within a minute begins with the next one. Periods that begin or
end within a bucket have a part of it. Without an end a report goes up to now, the running minute included. A page's cursor
keeps the end that the first page had, so that pages make up one whole.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, tzinfo
from typing import Annotated, Any, Final

from litestar import Request
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from msgspec import Struct

from runfold.api.errors import BadRequest
from runfold.api.export import Format, format_of
from runfold.api.given import GivenApi
from runfold.api.positions import WAIT, WaitFor, WaitSeconds
from runfold.report.periods import Width, buckets, first_minute, zone_named

LATEST: Final = 32_503_680_000
"""The year 3000, in Unix seconds: what is beyond is in milliseconds."""

USAGE_LIMITS: Final[dict[Width, tuple[int, int]]] = {"1d": (7, 31), "1h": (24, 168), "1m": (60, 1440)}
COSTS_LIMITS: Final[dict[Width, tuple[int, int]]] = {"1d": (7, 180)}
"""How many buckets a page has by default, and at most."""

_CURSOR: Final = re.compile(r"page_([0-9]{1,12})_([0-9]{1,12})")


Start = Annotated[int, QueryParameter(ge=0, le=LATEST, description="Begin of the period, Unix seconds, included")]
End = Annotated[
    int | None, QueryParameter(ge=1, le=LATEST, description="End of the period, Unix seconds, not included; else now")
]
Page = Annotated[str | None, QueryParameter(max_length=64, description="`next_page` of the page before")]
Zone = Annotated[
    str | None,
    QueryParameter(max_length=64, description="Whose days, where buckets are days, such as Europe/Oslo; else UTC's"),
]
KnownAt = Annotated[
    int | None,
    QueryParameter(
        ge=0,
        le=LATEST,
        description="Only what had been published before this time (Unix seconds) counts. Walks all runs of the store, for "
        "one who asks at a time",
    ),
]
AsFormat = Annotated[
    Format | None, QueryParameter(description="Also by `Accept`: text/csv, application/vnd.apache.parquet")
]


def ids(query: str) -> Any:
    """A filter: any of the values. Commas are part of them."""
    return QueryParameter(name=query, description="Only these", max_items=100)


def _only(**filters: list[str] | None) -> dict[str, tuple[str, ...]]:
    """The filters that are given. An empty name, which no event has, finds nothing."""
    return {name: tuple(filter(None, values)) for name, values in filters.items() if values is not None}


class Window(Struct, frozen=True, kw_only=True):
    """One page: the ``edges`` of its buckets (Unix minutes; fewer than two where it has none), and the cursor of the next."""

    edges: tuple[int, ...]
    next_page: str | None


class Asked(Struct, frozen=True, kw_only=True):
    """What every report is asked by, as it came. Times are in Unix seconds; ``only`` are the filters by dimension."""

    start_time: int
    end_time: int | None
    page: str | None
    timezone: str | None
    only: dict[str, tuple[str, ...]]
    known_at: int | None
    format: Format


async def asked_for(
    *,
    request: Request[Any, Any, Any],
    api: GivenApi,
    start_time: Start,
    end_time: End = None,
    project_ids: Annotated[list[str] | None, ids("project_ids[]")] = None,
    user_ids: Annotated[list[str] | None, ids("user_ids[]")] = None,
    api_key_ids: Annotated[list[str] | None, ids("api_key_ids[]")] = None,
    models: Annotated[list[str] | None, ids("models[]")] = None,
    page: Page = None,
    timezone: Zone = None,
    as_known_at: KnownAt = None,
    format: AsFormat = None,  # noqa: A002 - the parameter's name
    wait_for: WaitFor = None,
    wait_seconds: WaitSeconds = WAIT,
) -> Asked:
    """What a report's route is given as ``asked``, once the positions that are waited for are folded."""
    await api.applied(wait_for, wait_seconds)
    return Asked(
        start_time=start_time,
        end_time=end_time,
        page=page,
        timezone=timezone,
        only=_only(project_id=project_ids, user_id=user_ids, api_key_id=api_key_ids, model=models),
        known_at=as_known_at,
        format=format_of(format, request.headers),
    )


GivenAsked = NamedDependency[Asked]


def window_of(asked: Asked, limits: dict[Width, tuple[int, int]], *, width: Width, limit: int | None) -> Window:
    """The page that is asked for: of a file, as long as it may be where no limit is given. Raises BadRequest."""
    default, most = limits[width]
    if limit is not None and limit > most:
        raise BadRequest(
            f"'limit' is {most} at most where 'bucket_width' is {width}.", param="limit", code="invalid_value"
        )
    begin, end = first_minute(asked.start_time), first_minute(asked.end_time or int(time.time()) + 1)
    if asked.end_time is not None and asked.end_time <= asked.start_time:
        raise BadRequest("'end_time' has to be later than 'start_time'.", param="end_time", code="invalid_value")
    if asked.page is not None:
        begin, end = _continued(asked, begin=begin, end=end)
    wanted = limit or (default if asked.format == "json" else most)
    edges = buckets(begin, end, width=width, zone=_zone(asked.timezone, width), most=wanted)
    more = bool(edges) and edges[-1] < end
    return Window(edges=edges, next_page=f"page_{edges[-1]}_{end}" if more else None)


def _continued(asked: Asked, *, begin: int, end: int) -> tuple[int, int]:
    found = _CURSOR.fullmatch(asked.page or "")
    told = (int(found[1]), int(found[2])) if found else (0, 0)
    fits = begin <= told[0] < told[1] <= end and (asked.end_time is None or told[1] == end)
    if not fits:
        raise BadRequest(
            "This is no cursor of this report: pass 'next_page' of the page before, with the same other parameters.",
            param="page",
            code="invalid_value",
        )
    return told


def _zone(name: str | None, width: Width) -> tzinfo:
    if name is None:
        return UTC
    if width != "1d":
        raise BadRequest("A time zone is for days: 'bucket_width' 1d.", param="timezone", code="invalid_value")
    try:
        return zone_named(name)
    except ValueError as error:
        raise BadRequest(str(error), param="timezone", code="invalid_value") from error
