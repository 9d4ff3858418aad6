"""Whatever reports are asked for: groups, filters, widths, periods and pages agree with one another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from api_serving import ApiServer
from ended_runs import BEGIN, HOURS, MODELS, PROJECTS, ended_runs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from report_serving import STORES, all_pages, reporting, reports

NUMBERS = ("num_model_requests", "input_tokens", "output_tokens", "input_cached_tokens")
GROUPS = ("project_id", "user_id", "api_key_id", "model", "batch")
LIMITS = {"1m": 1440, "1h": 168, "1d": 31}
often = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=STORES)
def ended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server over 400 runs that have ended."""
    with reporting(request, tmp_path_factory.mktemp("ended"), ended_runs(400)) as made:
        yield made


@st.composite
def periods(draw: st.DrawFn) -> dict[str, Any]:
    """A period somewhere around the runs, and how wide its buckets are."""
    begin = draw(st.integers(BEGIN - 7200, BEGIN + HOURS * 3600))
    length = draw(st.integers(60, 40 * 3600))
    return {"start_time": begin, "end_time": begin + length, "bucket_width": draw(st.sampled_from(list(LIMITS)))}


filters = st.fixed_dictionaries(
    {},
    optional={
        "models": st.lists(st.sampled_from([name for name in MODELS if name]), min_size=1, unique=True),
        "project_ids": st.lists(st.sampled_from([name for name in PROJECTS if name]), min_size=1, unique=True),
        "user_ids": st.lists(st.sampled_from(["user_0", "user_1", "user_9"]), min_size=1, unique=True),
    },
)


def totals(buckets: list[dict[str, Any]]) -> Counter[str]:
    """The sums over all results."""
    found: Counter[str] = Counter()
    for of in buckets:
        for result in of["results"]:
            found.update({name: result[name] or 0 for name in NUMBERS})
    return +found


@given(period=periods(), told=filters, by=st.lists(st.sampled_from(GROUPS), unique=True))
@often
def test_groups_add_up_to_the_whole(ended: ApiServer, period: dict[str, Any], told: Any, by: list[str]) -> None:
    """However usage is grouped, bucket by bucket the sums are those of the whole."""
    asked = {**period, **told, "limit": LIMITS[period["bucket_width"]]}
    ask = reports(ended).completions
    whole, grouped = all_pages(ask, **asked), all_pages(ask, **asked, group_by=by)
    assert [totals([of]) for of in grouped] == [totals([of]) for of in whole]


@given(period=periods(), told=filters)
@often
def test_a_filter_gives_the_groups_that_it_names(ended: ApiServer, period: dict[str, Any], told: Any) -> None:
    """Filtered by values, the sums are those of the groups of these values."""
    asked = {**period, "limit": LIMITS[period["bucket_width"]]}
    names = {"models": "model", "project_ids": "project_id", "user_ids": "user_id"}
    grouped = all_pages(reports(ended).completions, **asked, group_by=list(names.values()))
    for of in grouped:
        of["results"] = [
            result for result in of["results"] if all(result[names[name]] in values for name, values in told.items())
        ]
    assert totals(all_pages(reports(ended).completions, **asked, **told)) == totals(grouped)


@given(period=periods(), by=st.lists(st.sampled_from(GROUPS), unique=True))
@often
def test_widths_agree(ended: ApiServer, period: dict[str, Any], by: list[str]) -> None:
    """Minutes, hours and days of one period add up to the same."""
    ask = reports(ended).completions
    found = [
        totals(all_pages(ask, **{**period, "bucket_width": width}, limit=limit, group_by=by))
        for width, limit in LIMITS.items()
    ]
    assert found[0] == found[1] == found[2]


@given(period=periods(), pages=st.integers(1, 6), by=st.lists(st.sampled_from(GROUPS), unique=True))
@often
def test_the_cursor_over_everything_is_one_big_query(
    ended: ApiServer, period: dict[str, Any], pages: int, by: list[str]
) -> None:
    """Page by page come the same buckets with the same results, each once."""
    ask, most = reports(ended).completions, LIMITS[period["bucket_width"]]
    whole = all_pages(ask, **period, group_by=by, limit=most)
    assert all_pages(ask, **period, group_by=by, limit=min(most, max(1, len(whole) // pages))) == whole
