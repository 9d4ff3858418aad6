"""Usage, as OpenAI's own client asks for it: what the store has booked, by bucket and group, and nothing else."""

from __future__ import annotations

import csv
import io
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
from api_serving import ApiServer, ask
from azure_trace import events_of, minutes_of_file, needs_trace, requests, told
from ended_runs import BEGIN, HOURS, ended_runs
from report_serving import STORES, all_pages, reporting, reports

from runfold.api.errors import BadRequest
from runfold.api.export import exported
from runfold_schemas import RunCompleted, RunCreated, Usage

END = BEGIN + HOURS * 3600
NUMBERS = ("num_model_requests", "input_tokens", "output_tokens")


@pytest.fixture(scope="module", params=STORES)
def ended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server over 400 runs that have ended."""
    with reporting(request, tmp_path_factory.mktemp("ended"), ended_runs(400)) as made:
        yield made


@pytest.fixture(scope="module", params=STORES)
def trace(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server over the trace."""
    events = told([events_of(*numbered) for numbered in enumerate(requests())])
    with reporting(request, tmp_path_factory.mktemp("trace"), events) as made:
        yield made


@needs_trace
@pytest.mark.parametrize(("width", "minutes"), [("1m", 1), ("1h", 60), ("1d", 1440)])
def test_every_bucket_of_the_trace_is_the_files_own(trace: ApiServer, width: str, minutes: int) -> None:
    """Requests and tokens of every minute, hour and day are the file's own sums, and there are no others."""
    known: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    for minute, sums in minutes_of_file().items():
        known[minute // minutes] = [old + new for old, new in zip(known[minute // minutes], sums, strict=True)]
    begin, end = min(known) * minutes * 60, (max(known) + 1) * minutes * 60
    found = all_pages(reports(trace).completions, start_time=begin, end_time=end, bucket_width=width)
    used = {
        of["start_time"] // 60 // minutes: [of["results"][0][name] for name in NUMBERS] for of in found if of["results"]
    }
    assert used == known


def test_buckets_leave_no_gap(ended: ApiServer) -> None:
    """Buckets without usage are there, and have no results."""
    page = reports(ended).completions(start_time=BEGIN - 7200, end_time=BEGIN, bucket_width="1h")
    assert [(of.start_time, of.end_time, of.results) for of in page.data] == [
        (BEGIN - 7200, BEGIN - 3600, []),
        (BEGIN - 3600, BEGIN, []),
    ]
    assert (page.object, page.has_more, page.next_page) == ("page", False, None)


@pytest.mark.parametrize(("width", "default", "most"), [("1m", 60, 1440), ("1h", 24, 168), ("1d", 7, 31)])
def test_pages_have_the_documented_limits(ended: ApiServer, width: str, default: int, most: int) -> None:
    """As many buckets as OpenAI documents: by default, at most, and one more is a 400 that names the limit."""
    report, asked = reports(ended).completions, {"start_time": 0, "bucket_width": width}
    assert len(report(**asked).data) == default
    assert len(report(**asked, limit=most).data) == most
    with pytest.raises(openai.BadRequestError) as raised:
        report(**asked, limit=most + 1)
    assert raised.value.param == "limit"


def test_buckets_are_days_unless_told(ended: ApiServer) -> None:
    """The default width is 1d."""
    page = reports(ended).completions(start_time=BEGIN, end_time=END)
    assert [of.end_time - of.start_time for of in page.data] == [86400, 86400, 43200]


def test_periods_are_half_open(ended: ApiServer) -> None:
    """Two periods that meet at a minute add up to the one of both, and a start within a minute begins with the next."""
    report = reports(ended).completions

    def runs(begin: int, end: int) -> int:
        found = all_pages(report, start_time=begin, end_time=end, bucket_width="1h", limit=168)
        return sum(result["num_model_requests"] for of in found for result in of["results"])

    for cut in (BEGIN + 3600 * 20 + 60 * 7, BEGIN + 3600 * 31 + 1):
        assert runs(BEGIN, cut) + runs(cut, END) == runs(BEGIN, END) == 400
    assert report(start_time=BEGIN + 1, end_time=BEGIN + 61, bucket_width="1m").data[0].start_time == BEGIN + 60


def test_without_an_end_the_report_goes_up_to_now(ended: ApiServer) -> None:
    """The last bucket ends within the minute that is running."""
    now = int(time.time())
    last = reports(ended).completions(start_time=now - 300, bucket_width="1h").data[-1]
    assert now <= last.end_time <= now + 120


def test_a_start_to_come_has_no_buckets(ended: ApiServer) -> None:
    """Nothing has been used yet, and there is nothing to page through."""
    page = reports(ended).completions(start_time=int(time.time()) + 3600)
    assert (page.data, page.has_more) == ([], False)


def test_days_are_those_of_a_time_zone(ended: ApiServer) -> None:
    """In Oslo 2025-10-26 has 25 hours; the sums over days are the same whatever the zone."""
    begin, end = BEGIN - 7200, BEGIN + 4 * 86400 - 3600
    asked = {"start_time": begin, "end_time": end}
    oslo = reports(ended).completions(**asked, extra_query={"timezone": "Europe/Oslo"})
    assert [of.end_time - of.start_time for of in oslo.data] == [86400, 86400, 90000, 86400]

    def runs(page: Any) -> int:
        return sum(result.num_model_requests for of in page.data for result in of.results)

    assert runs(oslo) == runs(reports(ended).completions(**asked)) == 400


@pytest.mark.parametrize("query", ["timezone=Europe/Bergen", "timezone=Europe/Oslo&bucket_width=1h"])
def test_a_time_zone_that_cannot_be_is_refused(ended: ApiServer, query: str) -> None:
    """No such zone, or buckets that are no days: the parameter is named."""
    answer = ask(ended, f"/v1/organization/usage/completions?start_time=0&{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "timezone")


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("", "start_time"),
        ("start_time=soon", "start_time"),
        ("start_time=-1", "start_time"),
        ("start_time=1761264000000", "start_time"),
        ("start_time=5&end_time=5", "end_time"),
        ("start_time=0&bucket_width=2h", "bucket_width"),
        ("start_time=0&group_by[]=colour", "group_by"),
        ("start_time=0&limit=0", "limit"),
        ("start_time=0&page=2", "page"),
        ("start_time=120&page=page_1_5", "page"),
        ("start_time=0&end_time=600&page=page_1_9", "page"),
        ("start_time=0&page=page_5_5", "page"),
        ("start_time=0&page=page_5_99999999999", "page"),
        ("start_time=0&page=page_%D9%A3_%D9%A4", "page"),
        ("start_time=0&page=page_5_600%00", "page"),
        ("start_time=0&batch=false", "batch"),
        ("start_time=0&format=xlsx", "format"),
        ("start_time=0&as_known_at=32000000000", "as_known_at"),
    ],
)
def test_a_bad_parameter_is_named(ended: ApiServer, query: str, param: str) -> None:
    """A 400 in OpenAI's shape."""
    answer = ask(ended, f"/v1/organization/usage/completions?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_groups_are_told_apart_by_what_was_asked_for_alone(ended: ApiServer) -> None:
    """The groups asked for are set where they are known; all others are null."""
    page = reports(ended).completions(start_time=BEGIN, group_by=["model", "project_id"], limit=1)
    results = page.data[0].results
    assert {(result.model, result.project_id) for result in results} >= {("gpt-4o", "proj_1"), (None, None)}
    assert {(result.user_id, result.api_key_id) for result in results} == {(None, None)}


@pytest.mark.parametrize(("group", "value"), [("batch", None), ("service_tier", None), ("api_source", "unlabeled")])
def test_what_events_do_not_tell_is_one_group(ended: ApiServer, group: str, value: object) -> None:
    """Asked for all the same: one result, null; all is unlabeled, which OpenAI calls what has no source."""
    (result,) = reports(ended).completions(start_time=BEGIN, group_by=[group], limit=1).data[0].results
    assert getattr(result, group) == value


def test_commas_are_part_of_a_value(ended: ApiServer) -> None:
    """A model with a comma in its name is one model."""
    page = reports(ended).completions(start_time=BEGIN, models=["our model, large"], group_by=["model"])
    assert {result.model for of in page.data for result in of.results} == {"our model, large"}


def test_filters_that_nothing_passes_leave_empty_buckets(ended: ApiServer) -> None:
    """A name that was never seen, and the empty one, which no event has."""
    for name in ("nobody", ""):
        page = reports(ended).completions(start_time=BEGIN, user_ids=[name])
        assert [of.results for of in page.data] == [[]] * 7


def test_extensions_group_by_assistant_and_status(ended: ApiServer) -> None:
    """What OpenAI's report does not know, in the words of a Run."""
    answer = ask(
        ended, f"/v1/organization/usage/completions?start_time={BEGIN}&group_by[]=status&group_by[]=assistant_id"
    )
    results = [result for of in answer.json()["data"] for result in of["results"]]
    assert {(result["status"], result["assistant_id"]) for result in results} == {
        (status, assistant) for status in ("completed", "failed") for assistant in ("asst_0", "asst_1")
    }


@pytest.mark.parametrize("ended", ["sqlite"], indirect=True)
def test_every_answer_says_how_fresh_it_is(ended: ApiServer) -> None:
    """In the body and in headers: up to where, how far behind, and what is wanting."""
    answer = ask(ended, "/v1/organization/usage/completions?start_time=0")
    told = answer.json()["runfold"]
    assert (told["lag"], told["incomplete"], told["rejected"]) == (0, 0, 0)
    assert told["without_usage"] == int(answer.headers["x-runfold-without-usage"]) > 0
    assert sum(told["position"].values()) == 1200


def test_csv_has_the_numbers_of_json(ended: ApiServer) -> None:
    """By parameter or by Accept; one row for each result, unknown is empty, and the page's cursor is a header."""
    query = f"/v1/organization/usage/completions?start_time={BEGIN}&bucket_width=1h&limit=30&group_by[]=model"
    listed = ask(ended, query)
    results = [result for of in listed.json()["data"] for result in of["results"]]
    for answer in (ask(ended, query + "&format=csv"), ask(ended, query, headers={"accept": "text/csv"})):
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert [(row["model"], row["input_tokens"], row["runs"]) for row in rows] == [
            tuple("" if value is None else str(value) for value in told)
            for told in ((of["model"], of["input_tokens"], of["runfold"]["runs"]) for of in results)
        ]
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert answer.headers["x-runfold-next-page"] == listed.json()["next_page"]


def test_parquet_has_the_rows_of_csv(ended: ApiServer) -> None:
    """Whole numbers as such, unknown is null."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="NOT PROVEN: pyarrow is not installed (the extra archive)")
    query = f"/v1/organization/usage/completions?start_time={BEGIN}&bucket_width=1h&group_by[]=model&format="
    rows = csv.DictReader(io.StringIO(ask(ended, query + "csv").text))
    table = parquet.read_table(io.BytesIO(ask(ended, query + "parquet").content)).to_pylist()
    assert [{name: "" if value is None else str(value) for name, value in row.items()} for row in table] == list(rows)


def test_parquet_without_pyarrow_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 400 that says what to install."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadRequest, match=r"pip install 'runfold\[archive\]'") as raised:
        exported("parquet", "usage", {"runs": int}, [{"runs": 1}], None)
    assert raised.value.param == "format"


def test_unknown_usage_is_null_and_counted(request: pytest.FixtureRequest, tmp_path: Any) -> None:
    """Tokens are null where no run of a result told any, the sum of the others where one did; the count says which."""
    request.param = "sqlite"
    at, events = BEGIN * 1000, []
    for run_id, model, usage in (
        ("a", "m", Usage(prompt_tokens=3, completion_tokens=4, total_tokens=7)),
        ("b", "m", None),
        ("c", "n", None),
    ):
        run = {"run_id": run_id, "thread_id": "t"}
        events += [
            RunCreated(**run, id="1", occurred_at=at, model=model),
            RunCompleted(**run, id="2", occurred_at=at, usage=usage),
        ]
    with reporting(request, tmp_path, events) as server:
        page = reports(server).completions(start_time=BEGIN, end_time=BEGIN + 60, group_by=["model"]).to_dict()
    found = {
        result["model"]: (result["input_tokens"], result["runfold"]["without_usage"], result["num_model_requests"])
        for result in page["data"][0]["results"]
    }
    assert found == {"m": (3, 1, 2), "n": (None, 1, 1)}


def test_the_document_has_every_parameter(ended: ApiServer) -> None:
    """What can be asked for stands in the OpenAPI document."""
    paths = httpx2.get(f"{ended.url}/openapi.json").json()["paths"]
    told = {parameter["name"] for parameter in paths["/v1/organization/usage/completions"]["get"]["parameters"]}
    assert told == {
        *("start_time", "end_time", "bucket_width", "limit", "page", "batch"),
        *("group_by[]", "project_ids[]", "user_ids[]", "api_key_ids[]", "models[]"),
        *("timezone", "as_known_at", "format", "wait_for", "wait_seconds"),
    }
