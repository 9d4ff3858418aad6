"""A price, and what every list of prices can be asked. Prices are in USD for a million tokens, as decimals."""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

from msgspec import Struct


def plain(number: Decimal) -> Decimal:
    """The number without zeros at its end, and without an exponent."""
    return number.quantize(Decimal(1)) if number == number.to_integral_value() else number.normalize()


class Price(Struct, frozen=True, kw_only=True):
    """The price of a model for as long as it is valid: USD for a million tokens.

    ``listed_as`` is the model's name in ``price_list``; ``valid`` says when the price is (None: whenever). Where
    ``size_tiers`` is set the list has other prices for large requests, which are not applied: a Run is many requests, and
    nothing tells their sizes.
    """

    model: str
    price_list: str
    listed_as: str
    valid: str | None
    input: Decimal
    cached_input: Decimal
    output: Decimal
    reasoning_output: Decimal
    size_tiers: bool = False


class PriceList(Protocol):
    """A list of prices."""

    @property
    def name(self) -> str:
        """By which the list is told apart."""

    def knows(self, model: str) -> bool:
        """Whether the list names the model, at whatever time."""

    def price(self, model: str, minute: int) -> Price | None:
        """The price at a Unix minute, the same object as long as it is valid; None where the list has none then."""

    def changes(self, begin: int, end: int) -> set[int]:
        """The Unix minutes, begin < minute < end, from which on some price may be another."""
