"""What usage cost: amounts of money by group, and how much of it is not known.

A run costs what its tokens cost at the price of its model in the minute in which it ended. Amounts are added up exactly, and
rounded once, where they are shown: half to even, to twelve decimals, which no price with six decimals needs. What has no
price, or told no usage, has no cost: it is counted, and where nothing else is in a group its amount is None, never 0.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import Any, Final

from msgspec import Struct

from runfold.fold.usage import SUMS
from runfold.report.price import Price, plain
from runfold.store.usage_query import UsageQuery, UsageSum

ITEMS: Final = ("input_tokens", "cached_input_tokens", "output_tokens")
"""What is paid for. Cached input is not part of the first."""

_EXACT: Final = Context(prec=80)
_SHOWN: Final = Decimal("1e-12")
_RUNS, _WITHOUT, _PROMPT, _CACHED, _COMPLETION, _REASONING = (
    SUMS.index(name)
    for name in ("runs", "without_usage", "prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens")
)


class Cost:
    """What some runs cost, as it is added up. ``runs`` ended; of them some are ``without_usage``, others ``without_price``."""

    def __init__(self) -> None:
        self._millionths = Decimal(0)
        self.runs = self.without_usage = self.without_price = self._tokens = 0

    def add(self, sums: Sequence[int], price: Price | None, items: Sequence[str] = ITEMS) -> None:
        """Add sums (in the order of SUMS) of runs of one model and one price; of ``items`` alone, if given."""
        self.runs += sums[_RUNS]
        self.without_usage += sums[_WITHOUT]
        self._tokens += sum(_tokens(sums, item) for item in items)
        if price is None:
            self.without_price += sums[_RUNS] - sums[_WITHOUT]
            return
        for item in items:
            for tokens, each in _paid(sums, price, item):
                self._millionths = _EXACT.fma(Decimal(tokens), each, self._millionths)

    @property
    def amount(self) -> Decimal | None:
        """In USD; None where nothing of it is known."""
        if self.runs == self.without_usage + self.without_price:
            return None
        with localcontext(_EXACT):
            return plain(self._millionths.scaleb(-6).quantize(_SHOWN, ROUND_HALF_EVEN))

    @property
    def tokens(self) -> int | None:
        """How many were used; None where no run told."""
        return None if self.runs == self.without_usage else self._tokens


class CostQuery(Struct, frozen=True, kw_only=True):
    """Which costs: of which ``buckets`` (their edges, Unix minutes), by which groups, of what ``only``.

    ``itemized`` tells each model's items apart; ``items`` are the names of line items that count, None for all.
    """

    buckets: tuple[int, ...]
    by: tuple[str, ...] = ()
    only: dict[str, tuple[str, ...]] = {}
    itemized: bool = False
    items: frozenset[str] | None = None


class CostLine(Struct, frozen=True, kw_only=True):
    """A group in a bucket. ``item`` is the line item's name, None where items are not told apart or the model is not known."""

    bucket: int
    group: tuple[Any, ...]
    item: str | None
    cost: Cost


class Costs(Struct, frozen=True, kw_only=True):
    """The lines in order of bucket, group and item, and the prices that were used."""

    lines: list[CostLine]
    prices: list[Price]


PriceAt = Callable[[str, int], Price | None]


def usage_wanted(query: CostQuery, changes: Callable[[int, int], set[int]]) -> UsageQuery:
    """The usage from which costs are made: by model too, and in pieces within which no price changes."""
    edges = {*query.buckets, *changes(query.buckets[0], query.buckets[-1])}
    return UsageQuery(edges=tuple(sorted(edges)), by=(*query.by, "model"), only=query.only)


def costs(query: CostQuery, pieces: UsageQuery, found: Iterable[UsageSum], price_at: PriceAt) -> Costs:
    """Price what was found of :func:`usage_wanted`."""
    lines: dict[tuple[int, tuple[Any, ...], str | None], Cost] = {}
    used: dict[int, Price] = {}
    for part, (*group, model), sums in found:
        begin = pieces.edges[part]
        price = price_at(model, begin)
        if price is not None:
            used[id(price)] = price
        bucket = bisect_right(query.buckets, begin) - 1
        for item, counted in _items(query, model):
            lines.setdefault((bucket, tuple(group), item), Cost()).add(sums, price, counted)
    ordered = sorted(lines.items(), key=lambda line: (line[0][0], line[0][1], line[0][2] or ""))
    return Costs(
        lines=[CostLine(bucket=of[0], group=of[1], item=of[2], cost=cost) for of, cost in ordered],
        prices=sorted(used.values(), key=lambda price: (price.model, price.valid or "")),
    )


def _items(query: CostQuery, model: str) -> list[tuple[str | None, tuple[str, ...]]]:
    """The lines that a model's usage goes to, each with the items that it has."""
    named = {f"{model}, {item}": item for item in ITEMS} if model else {}
    if query.items is not None:
        named = {name: item for name, item in named.items() if name in query.items}
        if not named:
            return []
    if query.itemized and named:
        return [(name, (item,)) for name, item in named.items()]
    return [(None, tuple(named.values()) or ITEMS)]


def _tokens(sums: Sequence[int], item: str) -> int:
    if item == "input_tokens":
        return sums[_PROMPT] - sums[_CACHED]
    return sums[_CACHED] if item == "cached_input_tokens" else sums[_COMPLETION]


def _paid(sums: Sequence[int], price: Price, item: str) -> list[tuple[int, Decimal]]:
    """Tokens with what a million of them costs."""
    if item == "output_tokens":
        reasoning = sums[_REASONING]
        return [(sums[_COMPLETION] - reasoning, price.output), (reasoning, price.reasoning_output)]
    return [(_tokens(sums, item), price.input if item == "input_tokens" else price.cached_input)]
