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

from litestar.params import QueryParameter
from msgspec import Struct

from runfold.api.errors import BadRequest
from runfold.api.export import Format
from runfold.report.periods import Width, buckets, first_minute, zone_named

LATEST: Final = 32_503_680_000
"""The year 3000, in Unix seconds: what is beyond is in milliseconds."""

USAGE_LIMITS: Final[dict[Width, tuple[int, int]]] = {"1d": (7, 31), "1h": (24, 168), "1m": (60, 1440)}
COSTS_LIMITS: Final[dict[Width, tuple[int, int]]] = {"1d": (7, 180)}
"""How many buckets a page has by default, and at most."""

_CURSOR: Final = re.compile(r"page_(\d{1,12})_(\d{1,12})")


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
    QueryParameter(ge=0, le=LATEST, description="Only what had been published before this time (Unix seconds) counts"),
]
AsFormat = Annotated[
    Format | None, QueryParameter(description="Also by `Accept`: text/csv, application/vnd.apache.parquet")
]


def ids(query: str) -> Any:
    """A filter: any of the values. Commas are part of them."""
    return QueryParameter(name=query, description="Only these", max_items=100)


Projects = Annotated[list[str] | None, ids("project_ids[]")]
Users = Annotated[list[str] | None, ids("user_ids[]")]
Keys = Annotated[list[str] | None, ids("api_key_ids[]")]


def only(**filters: list[str] | None) -> dict[str, tuple[str, ...]]:
    """The filters that are given. An empty name, which no event has, finds nothing."""
    return {name: tuple(filter(None, values)) for name, values in filters.items() if values is not None}


class Window(Struct, frozen=True, kw_only=True):
    """One page: the ``edges`` of its buckets (Unix minutes; fewer than two where it has none), and the cursor of the next."""

    edges: tuple[int, ...]
    next_page: str | None


class Asked(Struct, frozen=True, kw_only=True):
    """The parameters of a period, as they came. Times are in Unix seconds."""

    start_time: int
    end_time: int | None
    bucket_width: Width
    limit: int | None
    page: str | None
    timezone: str | None


def window_of(asked: Asked, limits: dict[Width, tuple[int, int]], *, whole_pages: bool = False) -> Window:
    """The page that is asked for; ``whole_pages`` are as long as they may be where no limit is given. Raises BadRequest."""
    most = _limit(asked, limits, whole_pages=whole_pages)
    begin, end = first_minute(asked.start_time), first_minute(asked.end_time or int(time.time()) + 1)
    if asked.end_time is not None and asked.end_time <= asked.start_time:
        raise BadRequest("'end_time' has to be later than 'start_time'.", param="end_time", code="invalid_value")
    if asked.page is not None:
        begin, end = _continued(asked, begin=begin, end=end)
    edges = buckets(begin, end, width=asked.bucket_width, zone=_zone(asked), most=most)
    more = bool(edges) and edges[-1] < end
    return Window(edges=edges, next_page=f"page_{edges[-1]}_{end}" if more else None)


def _limit(asked: Asked, limits: dict[Width, tuple[int, int]], *, whole_pages: bool) -> int:
    default, most = limits[asked.bucket_width]
    limit = asked.limit or (most if whole_pages else default)
    if limit > most:
        raise BadRequest(
            f"'limit' is {most} at most where 'bucket_width' is {asked.bucket_width}.",
            param="limit",
            code="invalid_value",
        )
    return limit


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


def _zone(asked: Asked) -> tzinfo:
    if asked.timezone is None:
        return UTC
    if asked.bucket_width != "1d":
        raise BadRequest("A time zone is for days: 'bucket_width' 1d.", param="timezone", code="invalid_value")
    try:
        return zone_named(asked.timezone)
    except ValueError as error:
        raise BadRequest(str(error), param="timezone", code="invalid_value") from error
