"""One's own price list: a CSV file, for prices that were agreed on and models that nobody else lists.

    model,from,input,cached_input,output
    gpt-4o,,2.50,1.25,10
    gpt-4o,2026-03-01,2.00,1.00,8
    our-model,,0.10,,0.40

Prices are in USD for a million tokens, with six decimals at most, so that what they come to is exact. ``from`` is a date or
a time (ISO 8601, UTC unless it says otherwise, to the minute) from which on a price is valid; empty means ever since.
``cached_input`` may be empty: then cached input costs what other input does. Models are named exactly as events name them.
Blank lines and lines that begin with # are passed over. A model that is named here is priced by this file alone, and before
its first ``from`` has no price.
"""

from __future__ import annotations

import csv
import os
from bisect import bisect_right
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

from runfold.config import ConfigError
from runfold.report.price import Price

COLUMNS: Final = ["model", "from", "input", "cached_input", "output"]
_SINCE_EVER: Final = -(1 << 62)
_MOST: Final = Decimal(1_000_000)
_DECIMALS: Final = 6


class PriceFile:
    """The list, read. ``periods`` has per model its prices with the Unix minutes from which on they are valid, in order."""

    def __init__(self, name: str, periods: dict[str, list[tuple[int, Price]]]) -> None:
        self.name, self._periods = name, periods

    def knows(self, model: str) -> bool:
        return model in self._periods

    def price(self, model: str, minute: int) -> Price | None:
        periods = self._periods.get(model, [])
        place = bisect_right(periods, minute, key=lambda period: period[0])
        return periods[place - 1][1] if place else None

    def changes(self, begin: int, end: int) -> set[int]:
        return {since for periods in self._periods.values() for since, _ in periods if begin < since < end}


def read_price_file(path: Path) -> PriceFile:
    """Read a price list. Raises ConfigError, which names everything that is wrong with it."""
    try:
        (head, *rows) = _rows(path.read_text(encoding="utf-8-sig")) or [(1, list[str]())]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
        raise ConfigError(f"RUNFOLD_PRICES: {path} cannot be read: {reason}") from error
    if head[1] != COLUMNS:
        raise ConfigError(f"RUNFOLD_PRICES: {path}, line {head[0]}: the columns {','.join(COLUMNS)} are wanted")
    periods: dict[str, dict[int, Price]] = {}
    problems = list[str]()
    for line, row in rows:
        try:
            since, price = _priced(row, path.name)
            if periods.setdefault(price.model, {}).setdefault(since, price) is not price:
                problems.append(f"RUNFOLD_PRICES: {path}, line {line}: {price.model} has a price from then on already")
        except ValueError as error:
            problems.append(f"RUNFOLD_PRICES: {path}, line {line}: {error}")
    if problems:
        raise ConfigError("\n".join(problems))
    return PriceFile(path.name, {model: sorted(of_model.items()) for model, of_model in periods.items()})


def _rows(text: str) -> list[tuple[int, list[str]]]:
    """Rows with the numbers of their lines; those that are blank or remarks are left out."""
    reader = csv.reader(text.splitlines(), strict=True)
    told = ((reader.line_num, [cell.strip() for cell in row]) for row in reader)
    return [(line, row) for line, row in told if any(row) and not row[0].startswith("#")]


def _priced(row: list[str], name: str) -> tuple[int, Price]:
    if len(row) != len(COLUMNS):
        raise ValueError(f"{len(COLUMNS)} cells are wanted, there are {len(row)}")
    model, since, told_input, told_cached, told_output = row
    if not model:
        raise ValueError("model: a name is wanted")
    of_input, of_output = _money("input", told_input), _money("output", told_output)
    return _minute(since), Price(
        model=model,
        price_list=name,
        listed_as=model,
        valid=f"from {since}" if since else None,
        input=of_input,
        cached_input=_money("cached_input", told_cached) if told_cached else of_input,
        output=of_output,
        reasoning_output=of_output,
    )


def _money(column: str, text: str) -> Decimal:
    try:
        price = Decimal(text) if text.isascii() else Decimal("nan")
    except InvalidOperation:
        price = Decimal("nan")
    exact = price.is_finite() and price == round(price, _DECIMALS)
    if not exact or not 0 <= price <= _MOST:
        raise ValueError(f"{column}: {text!r}: USD for a million tokens are wanted, with {_DECIMALS} decimals at most")
    return price


def _minute(text: str) -> int:
    if not text:
        return _SINCE_EVER
    try:
        told = datetime.fromisoformat(text)
        seconds = (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        seconds = 0.5
    if seconds % 60:
        raise ValueError(f"from: {text!r}: a date, or a time to the minute, is wanted: 2026-03-01 or 2026-03-01T12:00Z")
    return int(seconds) // 60
