"""What tokens of a model cost at a time: by one's own list where it names the model, else by genai-prices."""

from __future__ import annotations

from pathlib import Path

from runfold.report.market import Market, MarketMissing
from runfold.report.price import Price, PriceList
from runfold.report.price_file import PriceFile, read_price_file


class Prices:
    """All the lists there are, as one: ``own`` first."""

    def __init__(self, own: PriceFile | None, market: Market) -> None:
        self._own, self._market = own, market
        self._lists: tuple[PriceList, ...] | None = None

    @classmethod
    def of(cls, path: str) -> Prices:
        """By the setting RUNFOLD_PRICES ("" for none). Raises ConfigError."""
        return cls(read_price_file(Path(path)) if path else None, Market())

    def load(self) -> None:
        """Read what is not read yet, which takes half a second the first time. Raises MarketMissing where there is no list."""
        if self._lists is not None:
            return
        own: tuple[PriceList, ...] = () if self._own is None else (self._own,)
        try:
            self._market.load()
        except MarketMissing:
            if not own:
                raise
            self._lists = own
        else:
            self._lists = (*own, self._market)

    @property
    def names(self) -> list[str]:
        """The lists that there are."""
        return [listed.name for listed in self._loaded]

    def price(self, model: str, minute: int) -> Price | None:
        """The price at a Unix minute, the same object as long as it is valid; None where no list has one then."""
        knowing = next((listed for listed in self._loaded if listed.knows(model)), None)
        return None if knowing is None or not model else knowing.price(model, minute)

    def changes(self, begin: int, end: int) -> set[int]:
        """The Unix minutes, begin < minute < end, from which on some price may be another."""
        return set[int]().union(*(listed.changes(begin, end) for listed in self._loaded))

    @property
    def _loaded(self) -> tuple[PriceList, ...]:
        self.load()
        assert self._lists is not None
        return self._lists
