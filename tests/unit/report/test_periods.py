"""Where buckets begin and end."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runfold.report.periods import MINUTES, buckets, first_minute, zone_named

ZONES = ["Europe/Oslo", "America/New_York", "Asia/Kolkata", "America/Sao_Paulo", "Pacific/Apia", "Africa/Casablanca"]


def minute(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) // 60


def days(begin: str, end: str, zone: str) -> list[int]:
    """How many minutes each day has."""
    edges = buckets(minute(begin, zone), minute(end, zone), width="1d", zone=ZoneInfo(zone), most=1000)
    return [behind - edge for edge, behind in itertools.pairwise(edges)]


def test_the_days_on_which_clocks_change_are_short_and_long() -> None:
    """In Oslo 2026-03-29 has 23 hours, and 2026-10-25 has 25."""
    assert days("2026-03-28", "2026-03-31", "Europe/Oslo") == [1440, 1380, 1440]
    assert days("2026-10-24", "2026-10-27", "Europe/Oslo") == [1440, 1500, 1440]


def test_a_day_may_begin_behind_midnight() -> None:
    """Where clocks skip midnight, as in Sao Paulo on 2018-11-04, the day begins at one o'clock and has 23 hours."""
    assert days("2018-11-03", "2018-11-06", "America/Sao_Paulo") == [1440, 1380, 1440]


def test_a_day_that_a_zone_left_out_is_no_bucket() -> None:
    """Samoa went across the date line and had no 2011-12-30."""
    assert days("2011-12-29", "2012-01-01", "Pacific/Apia") == [1440, 1440]


def test_unaligned_periods_have_parts_of_buckets() -> None:
    """The first and the last bucket are cut off where the period begins and ends."""
    begin, end = minute("2026-05-01T10:20"), minute("2026-05-01T12:05")
    assert buckets(begin, end, width="1h", most=24) == (begin, begin + 40, begin + 100, end)


@pytest.mark.parametrize(("seconds", "expected"), [(0, 0), (1, 1), (60, 1), (61, 2)])
def test_a_minute_belongs_to_the_period_in_which_it_begins(seconds: int, expected: int) -> None:
    """A start within a minute begins with the next one."""
    assert first_minute(seconds) == expected


def test_a_period_with_nothing_in_it_has_no_bucket() -> None:
    """Begin and end alike: no edges."""
    assert buckets(5, 5, width="1m", most=10) == ()


@pytest.mark.parametrize("name", ["Europe/Bergen", "", "../../etc/passwd", "/etc/passwd", "Europe", "x" * 64, "a\x00b"])
def test_what_is_no_zone_is_refused(name: str) -> None:
    """A name that the database of zones does not have is a ValueError, whatever it is as a path."""
    with pytest.raises(ValueError, match="is no time zone"):
        zone_named(name)


@given(
    begin=st.integers(0, 30_000_000),
    length=st.integers(1, 60 * 24 * 40),
    width=st.sampled_from(["1m", "1h", "1d"]),
    zone=st.sampled_from(ZONES),
    most=st.integers(1, 50),
)
def test_pages_of_buckets_make_up_the_period(begin: int, length: int, width: str, zone: str, most: int) -> None:
    """Going on behind the last edge gives the edges that one page of everything has, in order and without a gap."""
    at = ZoneInfo(zone) if width == "1d" else UTC
    end, edges = begin + length, [begin]
    while edges[-1] < end and len(edges) < 500:
        page = buckets(edges[-1], end, width=width, zone=at, most=most)
        assert len(page) - 1 <= most
        edges += page[1:]
    whole = buckets(begin, end, width=width, zone=at, most=1 << 20)
    assert tuple(edges) == whole[: len(edges)]
    assert list(edges) == sorted(set(edges))
    assert max(behind - edge for edge, behind in itertools.pairwise(edges)) <= MINUTES[width] + 24 * 60
