"""The prices that come with genai-prices, as they stood when it was released: nothing is fetched.

A model is looked for at OpenAI first, then wherever its name is known; ``provider/model`` names the provider. Prices are
looked up once a model and period, for a look-up takes some 50 µs. Its histories are thin: how long a price is valid is said
with it. What a Run does not tell (audio, images, searches, fees for each request) is not priced.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from runfold.config import ConfigError
from runfold.report.price import Price, plain

if TYPE_CHECKING:
    from genai_prices.types import ConditionalPrice, ModelInfo, ModelPrice, Provider

_PROVIDERS: Final = ("openai", "litellm")  # the latter stands for any: by a prefix, else by the model's name
_DAY: Final = 1440
_MILLION: Final = 1_000_000
_SHOWN_DIGITS: Final = 12  # some prices in the list are floats with a tail


class MarketMissing(ConfigError):
    """genai-prices is not installed."""

    def __init__(self) -> None:
        super().__init__("costs need a list of prices: pip install 'runfold[cost]', or name your own in RUNFOLD_PRICES")


class Market:
    """The list. Importing it, which its first use does, takes half a second: see :meth:`load`."""

    def __init__(self) -> None:
        self._found = lru_cache(maxsize=10_000)(self._find)
        self._priced = lru_cache(maxsize=10_000)(self._price)

    def load(self) -> None:
        """Import the list, where that takes nobody's time. Raises MarketMissing."""
        _ = self._calendar

    @cached_property
    def name(self) -> str:
        return f"genai-prices {_library().__version__}"

    def knows(self, model: str) -> bool:
        return self._found(model) is not None

    def price(self, model: str, minute: int) -> Price | None:
        found = self._found(model)
        return None if found is None else self._priced(model, _in_force(found.model, _moment(minute)))

    def changes(self, begin: int, end: int) -> set[int]:
        days, times = self._calendar
        found = {day for day in days if begin < day < end}
        if times:
            first, last = begin // _DAY, end // _DAY
            found |= {day * _DAY + minute for day in range(first, last + 1) for minute in times}
        return {minute for minute in found if begin < minute < end}

    def _find(self, model: str) -> _Listed | None:
        snapshot = _library().data_snapshot.get_snapshot()
        for provider in _PROVIDERS:
            try:
                return _Listed(*snapshot.find_provider_model(model, None, provider, None))
            except LookupError:
                continue
        return None

    def _price(self, model: str, place: int) -> Price:
        found = self._found(model)
        assert found is not None
        chosen = _conditions(found.model)[place]
        base, tiered = _base_tier(chosen.prices)
        return Price(
            model=model,
            price_list=self.name,
            listed_as=f"{found.provider.id}/{found.model.id}",
            valid=_validity(chosen),
            input=_cost(base, input_tokens=_MILLION),
            cached_input=_cost(base, input_tokens=_MILLION, cache_read_tokens=_MILLION),
            output=_cost(base, output_tokens=_MILLION),
            reasoning_output=_cost(base, output_tokens=_MILLION, output_reasoning_tokens=_MILLION),
            size_tiers=tiered,
        )

    @cached_property
    def _calendar(self) -> tuple[set[int], set[int]]:
        """When any price changes: Unix minutes, and minutes of the day for prices that depend on it. All in UTC."""
        days, times = set[int](), set[int]()
        for provider in _library().data_snapshot.get_snapshot().providers:
            for model in provider.models:
                for condition in _conditions(model):
                    told = _limits(condition)
                    days |= {_minute_of(limit) for limit in told if not isinstance(limit, time)}
                    times |= {_minute_of_day(limit) for limit in told if isinstance(limit, time)}
        return days, times


class _Listed(NamedTuple):
    provider: Provider
    model: ModelInfo


def _library() -> Any:
    try:
        # Imported here: it is an extra, and reading its list takes half a second that most commands do not have to wait.
        import genai_prices  # noqa: PLC0415 - see above
        import genai_prices.data_snapshot  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        raise MarketMissing from error
    return genai_prices


def _conditions(model: ModelInfo) -> list[ConditionalPrice]:
    from genai_prices.types import ConditionalPrice  # noqa: PLC0415 - see _library

    return model.prices if isinstance(model.prices, list) else [ConditionalPrice(prices=model.prices)]


def _in_force(model: ModelInfo, moment: datetime) -> int:
    """The place of the price that genai-prices takes at a time."""
    prices, conditions = model.get_prices(moment), _conditions(model)
    return next(place for place, condition in enumerate(conditions) if condition.prices is prices)


def _base_tier(prices: ModelPrice) -> tuple[ModelPrice, bool]:
    """The prices without tiers and fees for each request, and whether there were tiers."""
    from genai_prices.types import ModelPrice, TieredPrices  # noqa: PLC0415 - see _library

    told = {name: price for name, price in vars(prices).items() if price is not None and name != "requests_kcount"}
    tiered = any(isinstance(price, TieredPrices) for price in told.values())
    base = {name: price.base if isinstance(price, TieredPrices) else price for name, price in told.items()}
    return ModelPrice(**base), tiered


def _cost(prices: ModelPrice, **tokens: int) -> Decimal:
    """What a million of some tokens costs."""
    from genai_prices import Usage  # noqa: PLC0415 - see _library

    return plain(round(prices.calc_price(Usage(**tokens))["total_price"], _SHOWN_DIGITS))


def _limits(condition: ConditionalPrice) -> list[date | time]:
    constraint: Any = condition.constraint
    if constraint is None:
        return []
    start = getattr(constraint, "start_date", None)
    return [constraint.start_time, constraint.end_time] if start is None else [start]


def _validity(condition: ConditionalPrice) -> str | None:
    match _limits(condition):
        case [time() as begin, time() as end]:
            return f"{begin:%H:%M} to {end:%H:%M} UTC"
        case [date() as day]:
            return f"from {day}"
    return None


def _moment(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC)


def _minute_of(day: date) -> int:
    return int(datetime.combine(day, time(), UTC).timestamp()) // 60


def _minute_of_day(told: time) -> int:
    offset = told.utcoffset() or timedelta()
    return (told.hour * 60 + told.minute - int(offset.total_seconds()) // 60) % _DAY
