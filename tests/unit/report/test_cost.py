"""Amounts: exact, rounded once, and unknown where they are."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from runfold.fold.usage import SUMS
from runfold.report.cost import ITEMS, Cost, CostQuery, costs, usage_wanted
from runfold.report.price import Price
from runfold.store.usage_query import UsageSum


def price(model: str = "m", **told: Any) -> Price:
    rates = {"input": "2", "cached_input": "0.5", "output": "8", "reasoning_output": "9", **told}
    money = {name: Decimal(rate) for name, rate in rates.items()}
    return Price(model=model, price_list="mine", listed_as=model, valid=None, **money)


def sums(runs: int = 1, **told: int) -> tuple[int, ...]:
    return tuple({"runs": runs, **told}.get(name, 0) for name in SUMS)


def amount(told: tuple[int, ...], at: Price | None) -> Decimal | None:
    cost = Cost()
    cost.add(told, at)
    return cost.amount


def test_cached_and_reasoning_tokens_are_parts() -> None:
    """Cached input is paid for as such and not as input too; reasoning likewise as part of the output."""
    used = sums(prompt_tokens=10**6, cached_tokens=400_000, completion_tokens=10**6, reasoning_tokens=500_000)
    assert amount(used, price()) == Decimal("0.6") * 2 + Decimal("0.4") * Decimal("0.5") + 4 + Decimal("4.5")


def test_what_is_not_known_is_none() -> None:
    """A run without usage, or a model without a price, costs nobody knows what; a run that used nothing costs 0."""
    assert amount(sums(without_usage=1), price()) is None
    assert amount(sums(prompt_tokens=5), None) is None
    assert amount(sums(), price()) == 0


def test_what_is_not_known_is_counted_beside_what_is() -> None:
    """The amount is of the runs whose cost is known, and the others are counted by why it is not."""
    cost = Cost()
    cost.add(sums(runs=3, without_usage=1, prompt_tokens=10**6), price())
    cost.add(sums(runs=2, without_usage=1, prompt_tokens=5), None)
    assert (cost.amount, cost.runs, cost.without_usage, cost.without_price) == (2, 5, 2, 1)


def test_amounts_are_rounded_once_half_to_even() -> None:
    """To twelve decimals, when all is added up: two halves of a unit are one, one half is none, three are two."""
    half = price(input="0.0000005")
    assert amount(sums(prompt_tokens=1), half) == 0
    assert amount(sums(prompt_tokens=2), half) == Decimal("1e-12")
    assert amount(sums(prompt_tokens=3), half) == Decimal("2e-12")


def test_amounts_are_written_without_exponents() -> None:
    """Whole numbers, large ones and 0 too."""
    assert [str(amount(sums(prompt_tokens=n), price())) for n in (0, 10**7, 3)] == ["0", "20", "0.000006"]


@given(
    st.lists(st.tuples(st.integers(0, 2**53), st.integers(0, 2**53)), max_size=30),
    st.decimals(0, 1000, places=6),
    st.integers(0, 30),
)
def test_parts_add_up_to_the_whole(used: list[tuple[int, int]], each: Decimal, cut: int) -> None:
    """However runs are told apart, what is shown adds up exactly, for prices of six decimals."""
    at = price(input=str(each))

    def total(of: list[tuple[int, int]]) -> Decimal:
        cost = Cost()
        for prompt, completion in of:
            cost.add(sums(prompt_tokens=prompt, completion_tokens=completion), at)
        return cost.amount or Decimal(0)

    assert total(used[:cut]) + total(used[cut:]) == total(used)


def test_a_price_change_within_a_bucket_counts() -> None:
    """Usage is asked for in pieces within which no price changes, and each is priced at its own."""
    query = CostQuery(buckets=(0, 1440), by=("project_id",))
    pieces = usage_wanted(query, lambda begin, end: {600})
    assert pieces.edges == (0, 600, 1440)
    assert pieces.by == ("project_id", "model")
    used = [UsageSum(part, ("p", "m"), sums(prompt_tokens=10**6)) for part in (0, 1)]
    found = costs(query, pieces, used, lambda model, minute: price(input="2" if minute < 600 else "3"))
    assert [(line.bucket, line.group, line.cost.amount) for line in found.lines] == [(0, ("p",), 5)]
    assert [used.input for used in found.prices] == [2, 3]


def itemized(**told: Any) -> dict[str | None, Decimal | None]:
    query = CostQuery(buckets=(0, 60), **told)
    pieces = usage_wanted(query, lambda begin, end: set())
    used = sums(prompt_tokens=3 * 10**6, cached_tokens=10**6, completion_tokens=10**6)
    found = [UsageSum(0, (model,), used) for model in ("", "m")]
    priced = costs(query, pieces, found, lambda model, minute: price(model) if model else None)
    return {line.item: line.cost.amount for line in priced.lines}


def test_line_items_are_a_models_inputs_and_outputs() -> None:
    """Three for each model; runs whose model is not known are one without a name."""
    assert itemized(itemized=True) == {
        None: None,
        "m, input_tokens": 4,
        "m, cached_input_tokens": Decimal("0.5"),
        "m, output_tokens": 8,
    }


def test_line_items_can_be_chosen() -> None:
    """By their whole names, told apart or not."""
    assert itemized(items=frozenset({"m, output_tokens", "m"})) == {None: 8}
    assert itemized(itemized=True, items=frozenset({f"m, {ITEMS[0]}"})) == {"m, input_tokens": 4}
