"""``runfold usage``: what runs used, by time and by whom, as the store has booked it.

Minutes are what the store keeps; a minute belongs to a period when it begins in it, so periods are half-open and add up.
"""

from __future__ import annotations

import asyncio
import csv
import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal

from cyclopts import Parameter, Token
from msgspec import Struct

from runfold.cli.exits import DONE, WrongUseError
from runfold.cli.opening import reading_store
from runfold.cli.options import HERE, AsJson, Places
from runfold.cli.printing import print_json, print_table, shown_seconds, tell
from runfold.cli.when import From, Until
from runfold.config import Settings
from runfold.fold.usage import SUMS, BucketKey
from runfold.report.cost import Cost
from runfold.report.price import Price
from runfold.report.prices import Prices
from runfold.store.usage_query import UsageRow
from runfold_schemas import RunStatus

GROUPS = {
    "model": "model",
    "assistant": "assistant_id",
    "project": "project_id",
    "user": "user_id",
    "key": "api_key_id",
    "status": "status",
}
"""What usage can be grouped by: the word on the command line, and its name in answers."""

_TOKENS = tuple(name for name in SUMS if name.endswith("_tokens"))
MINUTES = {"minute": 1, "hour": 60, "day": 1440}


class UsageLine(Struct, frozen=True, kw_only=True):
    """One line of the answer. ``begin`` and ``end`` are in Unix seconds.

    They are None without a bucket; tokens are None where no run told any. Seconds are sums over the ``timed_runs``, those
    whose times are all known, and None where there is none.
    """

    begin: int | None
    end: int | None
    group: tuple[str | None, ...]
    runs: int
    without_usage: int
    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None
    reasoning_tokens: int | None
    total_tokens: int | None
    timed_runs: int
    queue_seconds: float | None
    run_seconds: float | None
    cost_usd: Decimal | None = None
    without_price: int = 0


COSTS = ("cost_usd", "without_price")
NUMBERS = tuple(name for name in UsageLine.__struct_fields__[3:] if name not in COSTS)
"""What a line tells, by default."""


def _groups(_: Any, tokens: Sequence[Token]) -> tuple[str, ...]:
    names = [name for token in tokens for name in token.value.split(",")]
    for name in names:
        if name not in GROUPS:
            raise ValueError(f"{name!r} is no group: choose from {', '.join(GROUPS)}")
    return tuple(dict.fromkeys(names))


By = Annotated[
    tuple[str, ...],
    Parameter(converter=_groups, n_tokens=1, help=f"Group by some of {','.join(GROUPS)}, separated by commas."),
]
AsCsv = Annotated[bool, Parameter(name="--csv", help="Comma-separated values on stdout.")]
Bucket = Annotated[Literal["minute", "hour", "day"] | None, Parameter(help="One line for each, in UTC.")]


def usage(
    *,
    by: By = (),
    bucket: Bucket = None,
    begin: From = None,
    end: Until = None,
    json: AsJson = False,
    as_csv: AsCsv = False,
    cost: Annotated[bool, Parameter(help="What it cost too, in USD: see RUNFOLD_PRICES.")] = False,
    places: Places = HERE,
) -> int:
    """Sum up what ended runs used: runs, tokens, seconds in the queue and at work.

    A run counts in the minute in which it ended. Runs without_usage ended without telling; they count as runs, and their
    tokens are unknown. Cached tokens are part of the prompt's, reasoning tokens of the completion's. Seconds are sums over
    timed_runs, whose times are all known. A period has the minutes that begin in it: --from 12:00:30 begins with 12:01, and
    --until 12:00:30 ends with all of 12:00. With --cost each run costs what its model cost in the minute in which it ended;
    runs without_price are of a model that has none then, and not in cost_usd.
    """
    check_answer(json=json, as_csv=as_csv)
    period, settings = minutes_of(begin, end), places.settings()
    pricing = Pricing(Prices.of(settings.prices)) if cost else None
    rows = asyncio.run(_read(settings, begin=period[0], end=period[1]))
    lines = summed(rows, by=by, bucket=bucket, pricing=pricing)
    print_usage(lines, by, json=json, as_csv=as_csv, numbers=NUMBERS if pricing is None else (*NUMBERS, *COSTS))
    if pricing is not None:
        pricing.tell_prices()
    return DONE


class Pricing:
    """Prices rows of minutes, and remembers by which prices."""

    def __init__(self, prices: Prices) -> None:
        prices.load()
        self._prices, self._used = prices, dict[int, Price]()

    def of(self, row: UsageRow) -> Price | None:
        price = self._prices.price(row.bucket.dimensions.model, row.bucket.minute)
        if price is not None:
            self._used[id(price)] = price
        return price

    def tell_prices(self) -> None:
        """Say which prices were used: they are part of what the amounts mean."""
        for price in sorted(self._used.values(), key=lambda price: (price.model, price.valid or "")):
            valid = "" if price.valid is None else f", {price.valid}"
            tiers = "; its prices for large requests are not applied" if price.size_tiers else ""
            tell(
                f"{price.model}: {price.listed_as} of {price.price_list}{valid}: USD for a million tokens: {price.input} "
                f"input, {price.cached_input} cached, {price.output} output{tiers}"
            )


def check_answer(*, json: bool, as_csv: bool) -> None:
    """Raise WrongUseError where two kinds of answer are asked for at once."""
    if json and as_csv:
        raise WrongUseError("--json and --csv are two answers: choose one")


def minutes_of(begin: int | None, end: int | None) -> tuple[int | None, int | None]:
    """The Unix minutes of a period in Unix seconds. Raises WrongUseError where it ends before it begins."""
    if begin is not None and end is not None and begin > end:
        raise WrongUseError(f"--from {shown_seconds(begin)} is later than --until {shown_seconds(end)} (UTC)")
    return _minute(begin), _minute(end)


def print_usage(
    lines: Sequence[UsageLine], by: Sequence[str], *, json: bool, as_csv: bool, numbers: Sequence[str] = NUMBERS
) -> None:
    """The lines with these numbers as JSON Lines, as CSV, or as a table for people."""
    if json:
        print_json(*(as_dict(line, by, numbers) for line in lines))
    elif as_csv:
        _print_csv(lines, by, numbers)
    else:
        _print_for_people(lines, by, numbers)


async def _read(settings: Settings, *, begin: int | None, end: int | None) -> list[UsageRow]:
    async with reading_store(settings) as store:
        return await store.usage(begin=begin, end=end)


def _minute(seconds: int | None) -> int | None:
    """The first minute that begins at or after a time."""
    return None if seconds is None else -(-seconds // 60)


def summed(
    rows: Iterable[UsageRow], *, by: Sequence[str], bucket: str | None, pricing: Pricing | None = None
) -> list[UsageLine]:
    """Sum minute rows by bucket and group, in order of time and group; with what they cost, if they are to be priced."""
    width = None if bucket is None else MINUTES[bucket]
    sums: dict[tuple[Any, ...], list[int]] = {}
    costs: dict[tuple[Any, ...], Cost] = {}
    for row in rows:
        begin = None if width is None else row.bucket.minute // width * width
        key = (begin, *(_named(row.bucket, name) for name in by))
        line = sums.setdefault(key, [0] * len(SUMS))
        line[:] = map(sum, zip(line, row.sums, strict=True))
        if pricing is not None:
            costs.setdefault(key, Cost()).add(row.sums, pricing.of(row))
    ordered = sorted(sums.items(), key=lambda item: tuple((part is not None, part) for part in item[0]))
    return [_line(key, line, width, costs.get(key)) for key, line in ordered]


def _named(bucket: BucketKey, name: str) -> str | None:
    if name == "status":
        return RunStatus(bucket.status).wire
    return getattr(bucket.dimensions, GROUPS[name]) or None


def _line(key: tuple[Any, ...], sums: Sequence[int], width: int | None, cost: Cost | None) -> UsageLine:
    told: dict[str, Any] = dict(zip(SUMS, sums, strict=True))
    timed, queue, run = told["timed_runs"], told.pop("queue_ms"), told.pop("run_ms")
    begin, *group = key
    if told["runs"] == told["without_usage"]:
        told |= dict.fromkeys(_TOKENS)
    return UsageLine(
        begin=None if begin is None else begin * 60,
        end=None if begin is None or width is None else (begin + width) * 60,
        group=tuple(group),
        queue_seconds=queue / 1000 if timed else None,
        run_seconds=run / 1000 if timed else None,
        cost_usd=None if cost is None else cost.amount,
        without_price=0 if cost is None else cost.without_price,
        **told,
    )


def as_dict(line: UsageLine, by: Sequence[str], numbers: Sequence[str] = NUMBERS) -> dict[str, Any]:
    """A line with its groups by name, as JSON and CSV show it."""
    period = {"begin": line.begin, "end": line.end}
    group = dict(zip((GROUPS[name] for name in by), line.group, strict=True))
    return {**period, **group, **{name: getattr(line, name) for name in numbers}}


def _print_csv(lines: Sequence[UsageLine], by: Sequence[str], numbers: Sequence[str]) -> None:
    writer = csv.DictWriter(sys.stdout, ["begin", "end", *(GROUPS[name] for name in by), *numbers], lineterminator="\n")
    writer.writeheader()
    writer.writerows(as_dict(line, by, numbers) for line in lines)


def _print_for_people(lines: Sequence[UsageLine], by: Sequence[str], numbers: Sequence[str]) -> None:
    timed = any(line.begin is not None for line in lines)
    columns = [*(["begin (UTC)"] if timed else []), *by, *(name.replace("_", " ") for name in numbers)]
    rows = [
        [
            *([shown_seconds(line.begin)] if timed else []),
            *line.group,
            *(getattr(line, name) for name in numbers),
        ]
        for line in lines
    ]
    names = len(columns) - len(numbers)
    total = ["total", *[" "] * (names - 1), *_totals(lines, numbers)] if names else ()
    print_table(columns, rows, total=total)


def _totals(lines: Sequence[UsageLine], numbers: Sequence[str]) -> list[float | Decimal | None]:
    totals: list[float | Decimal | None] = []
    for name in numbers:
        known = [value for line in lines if (value := getattr(line, name)) is not None]
        totals.append(sum(known) if known else None)
    return totals
