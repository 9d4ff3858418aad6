"""Costs by day and group, in the shape of OpenAI's costs API, made from usage and price lists when they are asked for.

Every run costs what its model cost in the minute in which it ended. An amount is the sum of what is known, to twelve
decimals; it is null, never 0, where nothing is. Beside it stands how many runs have no cost, and why.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Response, Router, get
from litestar.di import Provide
from litestar.params import QueryParameter
from msgspec import Struct, structs

from runfold.api.api import Api
from runfold.api.auth import Caller
from runfold.api.documented import answers
from runfold.api.errors import JSON, NotInstalled
from runfold.api.export import Columns, Exporting, exported
from runfold.api.freshness import Freshness
from runfold.api.given import GivenApi, GivenCaller
from runfold.api.usage import usage_completions
from runfold.api.window import COSTS_LIMITS, GivenAsked, asked_for, ids, window_of
from runfold.report.cost import CostLine, CostQuery, Costs, costs, usage_wanted
from runfold.report.market import MarketMissing
from runfold.report.price import Price
from runfold.report.prices import Prices

Group = Literal["project_id", "user_id", "line_item", "api_key_id", "api_source", "model", "assistant_id"]
KNOWN: Final = ("project_id", "user_id", "api_key_id", "model", "assistant_id")


class Amount(Struct, frozen=True, kw_only=True):
    """Money, to twelve decimals; null where it is not known."""

    value: Decimal | None
    currency: Literal["usd"] = "usd"


class MoreCosts(Struct, frozen=True, kw_only=True):
    """How many runs ended, and how many of them have no cost: they told no usage, or their model has no price."""

    runs: int
    without_usage: int
    without_price: int


class CostResult(Struct, frozen=True, kw_only=True):
    """What a group cost. By line item a model's input, cached input and output are told apart, with their tokens."""

    amount: Amount
    runfold: MoreCosts
    line_item: str | None = None
    quantity: int | None = None
    quantity_unit: Literal["tokens"] | None = None
    project_id: str | None = None
    user_id: str | None = None
    api_key_id: str | None = None
    api_source: str | None = None
    model: str | None = None
    assistant_id: str | None = None
    object: Literal["organization.costs.result"] = "organization.costs.result"


class CostBucket(Struct, frozen=True, kw_only=True):
    """Unix seconds, half-open. No usage, no results."""

    start_time: int
    end_time: int
    results: list[CostResult]
    object: Literal["bucket"] = "bucket"


class CostNotes(Freshness, frozen=True, kw_only=True):
    """Freshness, and by which prices the page was made: USD for a million tokens.

    ``price_lists`` are looked at in this order. ``size_tiers`` says of a price that its list has others for large requests.
    They are not applied, as ``size_tiers_applied`` says: a Run is many requests, and does not tell their sizes.
    """

    price_lists: list[str]
    prices: list[Price]
    size_tiers_applied: Literal[False] = False


class CostPage(Struct, frozen=True, kw_only=True):
    """A page of buckets, without a gap."""

    data: list[CostBucket]
    has_more: bool
    next_page: str | None
    runfold: CostNotes | None
    object: Literal["page"] = "page"


_COLUMNS: Final[Columns] = {
    "start_time": int,
    "end_time": int,
    **dict.fromkeys((*KNOWN, "line_item"), str),
    "amount": Decimal,
    "currency": str,
    "quantity": int,
    **dict.fromkeys(("runs", "without_usage", "without_price"), int),
}
_encode = msgspec.json.Encoder(decimal_format="number").encode


@get(
    "/costs",
    operation_id="costs",
    summary="Costs by day and group",
    opt={"confined": True},
    operation_class=Exporting,
    responses=answers(CostPage, "A page of buckets", 409, 501),
)
async def list_costs(
    *,
    api: GivenApi,
    caller: GivenCaller,
    asked: GivenAsked,
    bucket_width: Annotated[Literal["1d"], QueryParameter(description="How wide buckets are")] = "1d",
    group_by: Annotated[
        list[Group] | None, QueryParameter(name="group_by[]", description="By what to tell apart")
    ] = None,
    line_items: Annotated[list[str] | None, ids("line_items[]")] = None,
    limit: Annotated[int | None, QueryParameter(ge=1, le=180, description="How many buckets; else 7")] = None,
) -> Response[Any]:
    """Days from `start_time` to `end_time`, page by page, in USD."""
    window = window_of(asked, COSTS_LIMITS, width=bucket_width, limit=limit)
    groups = dict.fromkeys(group_by or ())
    query = CostQuery(
        buckets=window.edges,
        by=tuple(name for name in groups if name in KNOWN),
        only=asked.only,
        itemized="line_item" in groups,
        items=None if line_items is None else frozenset(line_items),
    )
    made = await _costs(api, caller, query, known_at=asked.known_at)
    listed = _buckets(query, made.lines, source="api_source" in groups)
    if asked.format != "json":
        return exported(asked.format, "costs", _COLUMNS, _rows(listed), window.next_page)
    body = CostPage(
        data=listed,
        has_more=window.next_page is not None,
        next_page=window.next_page,
        runfold=_notes(api.freshness.told_to(caller), api.prices, made.prices),
    )
    return Response(_encode(body), media_type=JSON)


async def _costs(api: Api, caller: Caller, query: CostQuery, *, known_at: int | None) -> Costs:
    try:
        await asyncio.to_thread(api.prices.load)
    except MarketMissing as error:
        raise NotInstalled(f"{error}.") from error
    if len(query.buckets) < 2:
        return Costs(lines=[], prices=[])
    wanted = usage_wanted(query, api.prices.changes)
    found = await api.usage.sums(caller, wanted, known_at=known_at)
    return costs(query, wanted, found, api.prices.price)


def _buckets(query: CostQuery, lines: list[CostLine], *, source: bool) -> list[CostBucket]:
    results: list[list[CostResult]] = [[] for _ in query.buckets[1:]]
    for line in lines:
        results[line.bucket].append(_result(query, line, source=source))
    return [
        CostBucket(start_time=begin * 60, end_time=end * 60, results=of)
        for begin, end, of in zip(query.buckets, query.buckets[1:], results, strict=False)
    ]


def _result(query: CostQuery, line: CostLine, *, source: bool) -> CostResult:
    cost = line.cost
    counted = query.itemized and line.item is not None
    named: dict[str, Any] = {name: value or None for name, value in zip(query.by, line.group, strict=True)}
    return CostResult(
        amount=Amount(value=cost.amount),
        line_item=line.item,
        quantity=cost.tokens if counted else None,
        quantity_unit="tokens" if counted else None,
        api_source="unlabeled" if source else None,
        **named,
        runfold=MoreCosts(runs=cost.runs, without_usage=cost.without_usage, without_price=cost.without_price),
    )


def _notes(freshness: Freshness | None, lists: Prices, used: list[Price]) -> CostNotes | None:
    if freshness is None:
        return None
    return CostNotes(**structs.asdict(freshness), price_lists=lists.names, prices=used)


def _rows(listed: list[CostBucket]) -> list[dict[str, Any]]:
    return [
        {
            "start_time": of.start_time,
            "end_time": of.end_time,
            **structs.asdict(result),
            **structs.asdict(result.runfold),
            "amount": result.amount.value,
            "currency": result.amount.currency,
        }
        for of in listed
        for result in of.results
    ]


router = Router(
    "/v1/organization",
    route_handlers=[usage_completions, list_costs],
    dependencies={"asked": Provide(asked_for)},
    tags=["Usage and costs"],
)
