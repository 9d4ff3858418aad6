"""Where buckets of time begin and end: minutes, hours and days, in UTC or in a time zone with its long and short days.

Times are Unix minutes, for that is what usage is booked by. Buckets are half-open and leave no gap, so sums over them add up.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

Width = Literal["1m", "1h", "1d"]
MINUTES: dict[Width, int] = {"1m": 1, "1h": 60, "1d": 1440}


def buckets(begin: int, end: int, *, width: Width, zone: tzinfo = UTC, most: int) -> tuple[int, ...]:
    """The edges of at most ``most`` buckets from ``begin`` on, those of the calendar in between; () where there is none.

    A period that begins or ends within a bucket has a part of it, so that what it sums up to is the period's.
    """
    if begin >= end:
        return ()
    edges = [begin]
    for edge in _edges_behind(begin, width=width, zone=zone):
        edges.append(min(edge, end))
        if edge >= end or len(edges) > most:
            break
    return tuple(edges)


def first_minute(seconds: int) -> int:
    """The first minute that begins at or after a time: the one that a period from then on begins with."""
    return -(-seconds // 60)


@lru_cache(maxsize=64)
def zone_named(name: str) -> ZoneInfo:
    """The time zone of a name such as Europe/Oslo. Raises ValueError where there is none."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # a name may be a path out of the database, a folder, or too long
        raise ValueError(f"{name!r} is no time zone; a name such as Europe/Oslo is wanted") from error


def _edges_behind(begin: int, *, width: Width, zone: tzinfo) -> Iterator[int]:
    if width != "1d" or zone is UTC:
        step = MINUTES[width]
        edge = begin // step * step
        while True:
            edge += step
            yield edge
    day, last = datetime.fromtimestamp(begin * 60, zone).date(), begin
    while True:
        day += timedelta(days=1)
        edge = _begin_of(day, zone)
        if edge > last:  # a day that a zone left out, when it went across the date line, has no minute
            last = edge
            yield edge


def _begin_of(day: date, zone: tzinfo) -> int:
    """The day's first minute. Where clocks skip midnight, that is the one they go on from; where it comes twice, the first."""
    return first_minute(int(datetime.combine(day, time(), zone).timestamp()))
