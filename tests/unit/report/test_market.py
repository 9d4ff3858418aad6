"""Costs are those that genai-prices itself comes to, for models and times that it knows."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelPrice, TieredPrices
from hypothesis import given
from hypothesis import strategies as st

from runfold.fold.usage import SUMS
from runfold.report.cost import Cost
from runfold.report.market import Market, _conditions

MARKET = Market()
RATES = {"input_mtok", "output_mtok", "cache_read_mtok"}


def sums(**told: int) -> list[int]:
    """Of one run."""
    return [{"runs": 1, **told}.get(name, 0) for name in SUMS]


def of_texts() -> list[tuple[str, str]]:
    """Models of OpenAI that are priced by their tokens alone, at one size: what genai-prices can tell of a Run."""
    found = []
    openai = next(provider for provider in get_snapshot().providers if provider.id == "openai")
    for model in openai.models:
        prices = [vars(condition.prices) for condition in _conditions(model)]
        told = [{name: price for name, price in of.items() if price is not None} for of in prices]
        plain = not any(isinstance(price, TieredPrices) for of in told for price in of.values())
        if model.is_match(model.id) and plain and all(RATES & of.keys() and "requests_kcount" not in of for of in told):
            found.append(model.id)
    return found


@given(
    model=st.sampled_from(of_texts()),
    moment=st.datetimes(datetime(2024, 1, 1), datetime(2026, 11, 1), timezones=st.just(UTC)),
    prompt=st.integers(0, 10**9),
    cached=st.floats(0, 1),
    completion=st.integers(0, 10**9),
)
def test_a_run_costs_what_genai_prices_says(
    model: str, moment: datetime, prompt: int, cached: float, completion: int
) -> None:
    """For every model of OpenAI and any time, to the twelfth decimal."""
    moment = moment.replace(second=0, microsecond=0)
    told = {"prompt_tokens": prompt, "cached_tokens": int(prompt * cached), "completion_tokens": completion}
    cost = Cost()
    cost.add(sums(**told), MARKET.price(model, int(moment.timestamp()) // 60))
    usage = Usage(input_tokens=prompt, cache_read_tokens=told["cached_tokens"], output_tokens=completion)
    theirs = calc_price(usage, model, provider_id="openai", genai_request_timestamp=moment).total_price
    assert cost.amount == round(theirs, 12)


def test_the_price_is_that_of_the_time() -> None:
    """o3 became cheaper on 2025-06-10, and the price says since when it is valid."""
    day = int(datetime(2025, 6, 10, tzinfo=UTC).timestamp()) // 60
    before, after = MARKET.price("o3", day - 1), MARKET.price("o3", day)
    assert (before.input, before.valid, after.input, after.valid) == (10, None, 2, "from 2025-06-10")
    assert day in MARKET.changes(day - 1, day + 1)


def test_a_period_has_one_price() -> None:
    """Looked up again it is the same object."""
    assert MARKET.price("gpt-4o", 29_000_000) is MARKET.price("gpt-4o", 29_000_001)


@pytest.mark.parametrize("model", ["deepseek/deepseek-chat", "deepseek/deepseek-v4-flash", "o3", "gpt-5"])
def test_prices_change_at_no_other_time(model: str) -> None:
    """Over a day of a model whose price depends on the hour, every change is one of those that were told."""
    begin = int(datetime(2026, 10, 1, tzinfo=UTC).timestamp()) // 60
    changes = MARKET.changes(begin, begin + 1440)
    seen = {
        minute
        for minute in range(begin + 1, begin + 1440)
        if MARKET.price(model, minute) is not MARKET.price(model, minute - 1)
    }
    assert seen <= changes


def test_size_tiers_are_told_and_not_applied() -> None:
    """A model with tiers is priced at the base one, however much was used, and its price says so."""
    price = MARKET.price("claude-sonnet-4-5", 29_400_000)
    cost = Cost()
    cost.add(sums(prompt_tokens=10**9), price)
    assert price.size_tiers
    assert cost.amount == 1000 * price.input == 3000


@pytest.mark.parametrize(
    ("model", "listed_as"),
    [
        ("gpt-4o", "openai/gpt-4o"),
        ("claude-sonnet-4-5", "anthropic/claude-sonnet-4-5"),
        ("anthropic/claude-sonnet-4-5", "anthropic/claude-sonnet-4-5"),
    ],
)
def test_models_are_found_wherever_their_name_is_known(model: str, listed_as: str) -> None:
    """At OpenAI first; with the provider in front of the name, there."""
    assert MARKET.price(model, 29_400_000).listed_as == listed_as


@pytest.mark.parametrize("model", ["", "no such model", "a" * 1000, "openai/"])
def test_an_unknown_model_has_no_price(model: str) -> None:
    """None, never a price of 0."""
    assert MARKET.price(model, 29_400_000) is None


def test_a_fee_for_each_request_is_left_out() -> None:
    """A Run does not tell how many requests it made."""
    from runfold.report.market import _base_tier

    prices: Any = ModelPrice(input_mtok=Decimal(1), requests_kcount=Decimal(5))
    assert _base_tier(prices) == (ModelPrice(input_mtok=Decimal(1)), False)
