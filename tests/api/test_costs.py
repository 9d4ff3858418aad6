"""Costs, as OpenAI's own client asks for them: what usage comes to at the prices of its time, and what nobody can tell."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest
from api_serving import ApiServer, ask, publish_and_fold
from ended_runs import BEGIN, HOURS, ended_runs
from genai_prices import Usage as Used
from genai_prices import calc_price
from report_serving import STORES, all_pages, reporting, reports

from runfold_schemas import RunCompleted, RunCreated, Usage

END = BEGIN + HOURS * 3600
PERIOD = {"start_time": BEGIN, "end_time": END}


@pytest.fixture(scope="module", params=STORES)
def ended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server over 400 runs that have ended."""
    with reporting(request, tmp_path_factory.mktemp("ended"), ended_runs(400)) as made:
        yield made


def theirs() -> dict[tuple[int, str | None], Decimal]:
    """What genai-prices says that the runs cost, by day and model: each run for itself."""
    models: dict[str, str] = {}
    sums: dict[tuple[int, str | None], Decimal] = defaultdict(Decimal)
    for event in ended_runs(400):
        if isinstance(event, RunCreated):
            models[event.run_id] = event.model
        usage, model = getattr(event, "usage", None), models[event.run_id]
        if usage is not None and model in ("gpt-4o", "o3"):
            used = Used(
                input_tokens=usage.prompt_tokens,
                cache_read_tokens=usage.prompt_token_details.cached_tokens,
                output_tokens=usage.completion_tokens,
            )
            at = datetime.fromtimestamp(event.occurred_at / 1000, UTC)
            price = calc_price(used, model, provider_id="openai", genai_request_timestamp=at).total_price
            sums[event.occurred_at // 86_400_000 * 86_400, model] += price
    return sums


def test_costs_are_those_of_genai_prices(ended: ApiServer) -> None:
    """Every day of every model costs what genai-prices says that its runs cost, each for itself."""
    query = f"/v1/organization/costs?start_time={BEGIN}&end_time={END}&group_by[]=model&format=csv"
    rows = csv.DictReader(io.StringIO(ask(ended, query).text))
    found = {(int(row["start_time"]), row["model"]): Decimal(row["amount"]) for row in rows if row["amount"]}
    assert found == theirs()


def test_parquet_has_amounts_to_the_last_digit(ended: ApiServer) -> None:
    """As decimals, which are those of genai-prices; null where nobody knows."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="NOT PROVEN: pyarrow is not installed (the extra archive)")
    query = f"/v1/organization/costs?start_time={BEGIN}&end_time={END}&group_by[]=model&format=parquet"
    rows = parquet.read_table(io.BytesIO(ask(ended, query).content)).to_pylist()
    assert {(row["start_time"], row["model"]): row["amount"] for row in rows if row["amount"] is not None} == theirs()
    assert any(row["amount"] is None for row in rows)


def test_the_client_sees_amounts_in_usd(ended: ApiServer) -> None:
    """As numbers, with their currency, by project and key."""
    page = reports(ended).costs(**PERIOD, group_by=["project_id", "api_key_id"])
    results = [result for of in page.data for result in of.results]
    assert {(result.amount.currency, result.api_key_id) for result in results} == {("usd", "key_1")}
    assert sum(result.amount.value for result in results) == pytest.approx(float(sum(theirs().values())))


def test_what_has_no_cost_is_null_and_counted(ended: ApiServer) -> None:
    """A model without a price costs nobody knows what; the sum over all counts how many runs are not in it, and why."""
    by_model = reports(ended).costs(**PERIOD, extra_query={"group_by[]": "model"}).to_dict()
    results = [result for of in by_model["data"] for result in of["results"]]
    unpriced = [result for result in results if result["model"] in (None, "our model, large")]
    assert unpriced
    assert all(result["amount"]["value"] is None for result in unpriced)
    whole = [result for of in reports(ended).costs(**PERIOD).to_dict()["data"] for result in of["results"]]
    for name in ("runs", "without_usage", "without_price"):
        counts = [sum(result["runfold"][name] for result in of) for of in (whole, results)]
        assert counts[0] == counts[1] > 0


def test_line_items_add_up(ended: ApiServer) -> None:
    """Input, cached input and output of each model, with their tokens; chosen by their whole names, commas and all."""
    report = reports(ended).costs
    listed = report(**PERIOD, group_by=["line_item"]).to_dict()["data"]
    results = [result for of in listed for result in of["results"]]
    amounts = [result["amount"]["value"] for result in results if result["amount"]["value"] is not None]
    assert sum(amounts) == pytest.approx(float(sum(theirs().values())))
    assert {"our model, large, output_tokens", "o3, cached_input_tokens", None} <= {of["line_item"] for of in results}
    chosen = report(**PERIOD, group_by=["line_item"], line_items=["o3, input_tokens"]).to_dict()["data"]
    assert [result for of in chosen for result in of["results"]] == [
        result for result in results if result["line_item"] == "o3, input_tokens"
    ]
    assert all(
        result["quantity_unit"] == "tokens" and result["quantity"] > 0 for of in chosen for result in of["results"]
    )


def test_the_answer_says_which_prices_were_used(ended: ApiServer) -> None:
    """Of which list, valid when, how high; that size tiers are not applied; and how fresh it all is."""
    told = reports(ended).costs(**PERIOD).to_dict()["runfold"]
    assert [(price["listed_as"], price["valid"], price["input"]) for price in told["prices"]] == [
        ("openai/gpt-4o", None, 2.5),
        ("openai/o3", "from 2025-06-10", 2),
    ]
    assert told["price_lists"][0].startswith("genai-prices ")
    assert (told["size_tiers_applied"], told["lag"]) == (False, 0)


def test_pages_have_the_documented_limits(ended: ApiServer) -> None:
    """7 days by default, 180 at most; days are the only buckets."""
    report = reports(ended).costs
    assert (len(report(start_time=0).data), len(report(start_time=0, limit=180).data)) == (7, 180)
    for asked, param in (({"limit": 181}, "limit"), ({"bucket_width": "1h"}, "bucket_width")):
        with pytest.raises(openai.BadRequestError) as raised:
            report(start_time=0, **asked)
        assert raised.value.param == param


def test_pages_make_up_the_whole(ended: ApiServer) -> None:
    """The cursor over everything gives what one large page does."""
    asked = {"start_time": BEGIN - 86400, "end_time": END + 86400, "group_by": ["project_id", "line_item"]}
    report = reports(ended).costs
    assert all_pages(report, **asked, limit=1) == all_pages(report, **asked, limit=180)


def test_days_of_a_time_zone_cost_the_same_together(ended: ApiServer) -> None:
    """Prices change at their own times, wherever days begin."""
    query = f"/v1/organization/costs?start_time={BEGIN - 86400}&end_time={END + 86400}&format=csv&timezone="

    def total(zone: str) -> Decimal:
        rows = csv.DictReader(io.StringIO(ask(ended, query + zone).text))
        return sum((Decimal(row["amount"]) for row in rows if row["amount"]), Decimal(0))

    assert total("Asia/Kolkata") == total("Europe/Oslo") == total("UTC") == sum(theirs().values())


def test_own_prices_stand_before_those_of_others(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """A model that the own list names is priced by it, from its times on; the others as before."""
    request.param = "sqlite"
    prices = tmp_path / "prices.csv"
    prices.write_text(
        'model,from,input,cached_input,output\no3,,1,1,1\no3,2025-10-25,3,3,3\n"our model, large",,0,0,0\n'
    )
    with reporting(request, tmp_path, ended_runs(400), prices=prices) as server:
        page = reports(server).costs(**PERIOD, extra_query={"group_by[]": "model"}).to_dict()
    found = {
        (of["start_time"], result["model"]): result["amount"]["value"]
        for of in page["data"]
        for result in of["results"]
    }
    assert found[BEGIN, "our model, large"] == 0
    assert found[BEGIN, "gpt-4o"] == float(theirs()[BEGIN, "gpt-4o"])
    told = [(price["model"], price["price_list"], price["valid"]) for price in page["runfold"]["prices"]]
    assert ("o3", "prices.csv", None) in told
    assert ("o3", "prices.csv", "from 2025-10-25") in told
    assert page["runfold"]["price_lists"][0] == "prices.csv"


def test_a_price_list_that_is_wrong_stops_the_server(tmp_path: Path) -> None:
    """Before it listens, with exit code 2, naming file and line."""
    prices = tmp_path / "prices.csv"
    prices.write_text("model,from,input,cached_input,output\nm,,cheap,,1\n")
    own = {name: value for name, value in os.environ.items() if not name.startswith("RUNFOLD_")}
    told = {"RUNFOLD_DATA": str(tmp_path), "RUNFOLD_PRICES": str(prices)}
    publish_and_fold(tmp_path, [])
    command = [sys.executable, "-m", "runfold", "api", "--port", "0"]
    ended = subprocess.run(command, env=own | told, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "prices.csv, line 2: input: 'cheap'" in ended.stderr


def test_what_was_known_then(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """As known before anything was published there is nothing; as known now, everything; to come is refused."""
    request.param = "sqlite"
    before = int(time.time())
    run: dict[str, Any] = {"run_id": "a", "thread_id": "t", "occurred_at": BEGIN * 1000}
    used = Usage(prompt_tokens=10**6, completion_tokens=0, total_tokens=10**6)
    events = [RunCreated(**run, id="1", model="gpt-4o"), RunCompleted(**run, id="2", usage=used)]
    with reporting(request, tmp_path, events) as server:
        time.sleep(max(0.0, int(time.time()) + 1.05 - time.time()))  # a time counts in whole seconds
        for known_at, amounts in ((before, []), (int(time.time()), [2.5])):
            page = reports(server).costs(**PERIOD, extra_query={"as_known_at": known_at}).to_dict()
            assert [result["amount"]["value"] for of in page["data"] for result in of["results"]] == amounts
        with pytest.raises(openai.BadRequestError) as raised:
            reports(server).costs(**PERIOD, extra_query={"as_known_at": int(time.time()) + 600})
    assert raised.value.param == "as_known_at"
