"""What every room of the API is given: settings, the questions it may ask, the log, and how fresh answers are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from msgspec import Struct

from runfold import wiring
from runfold.api.freshness import FreshnessCache
from runfold.api.intake import Intake
from runfold.api.kept import Kept
from runfold.api.log_access import LogAccess
from runfold.api.positions import PAUSE, Positions
from runfold.api.reading import Reading
from runfold.api.usage_reading import UsageReading
from runfold.api.windows import Windows
from runfold.config import Settings
from runfold.report.prices import Prices
from runfold.store.port import Store

COUNTED: Final = 10.0
"""Seconds for which runs that were counted by status need not be counted again: it is a sum over all of them."""


class Api(Struct, frozen=True, kw_only=True):
    """Handlers take it as their parameter ``api``. ``store`` is open to read; routes ask it through ``reading``."""

    settings: Settings
    store: Store
    log: LogAccess
    reading: Reading
    freshness: FreshnessCache
    positions: Positions
    windows: Windows
    counts: Kept[dict[str, int]]
    stopping: asyncio.Event
    """Set where the server is about to go, so that answers without an end find one."""
    usage: UsageReading
    prices: Prices
    intake: Intake

    @classmethod
    def of(cls, settings: Settings, *, store: Store, log: LogAccess) -> Api:
        """Raises ConfigError where the price list cannot be used."""
        return cls(
            settings=settings,
            store=store,
            log=log,
            reading=Reading(store),
            freshness=FreshnessCache(store, log),
            positions=Positions(store),
            windows=Windows(store, log),
            counts=Kept(store.count_runs, kept=COUNTED),
            stopping=asyncio.Event(),
            usage=UsageReading(store, log, settings.rules),
            prices=Prices.of(settings.prices),
            intake=Intake(partial(wiring.open_publisher, settings)),
        )

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Store]:
        """The store, open to write, for what an admin decides; beside a living service. Raises StoreError."""
        store = wiring.open_store(self.settings)
        await store.open(write=True)
        try:
            yield store
        finally:
            await store.close()

    async def applied(self, wait_for: str | None, wait_seconds: float) -> None:
        """Return once these positions are folded, which the answer's freshness shows then. Raises BadRequest, TimedOut."""
        if wait_for is not None:
            await self.positions.applied(wait_for, wait_seconds)
            await self.freshness.renew_now(pause=PAUSE)

    async def close(self) -> None:
        """Close all but the store, which is whoever's who opened it."""
        try:
            await self.intake.close()
        finally:
            await self.freshness.close()
            await self.positions.close()
            await self.windows.close()
            await self.counts.close()
            await self.log.close()
