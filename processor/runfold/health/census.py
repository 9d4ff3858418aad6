"""Counting what the store holds, now and then: runs by status, what is odd among them, dead letters.

Whoever holds partition 0 counts, for all; so a store is counted once, however many workers it has. A count reads an index
from end to end, so the next one waits a hundred times as long as the last one took.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from math import nan

from runfold.health.metrics import Changing, Metrics
from runfold.health.vitals import Vitals
from runfold.store.port import Store, StoreError
from runfold_schemas import RunStatus

LEAST_PAUSE = 10.0
_PAUSE_PER_SECOND = 100
_COUNTING_PARTITION = 0
_LOOK_SECONDS = 0.5


class Census:
    """Counts with a reader of its own, until cancelled; a store that does not answer leaves the figures unknown."""

    def __init__(self, metrics: Metrics, vitals: Vitals, open_store: Callable[[], Store]) -> None:
        self._metrics, self._vitals, self._open_store = metrics, vitals, open_store
        self._runs, self._letters = Changing(metrics.runs), Changing(metrics.standing_letters)

    async def take(self) -> None:
        """Count whenever it is our turn."""
        while True:
            pause = _LOOK_SECONDS
            if _COUNTING_PARTITION in self._vitals.owned:
                begun = time.monotonic()
                await self._count()
                pause = max(LEAST_PAUSE, (time.monotonic() - begun) * _PAUSE_PER_SECOND)
            await asyncio.sleep(pause)
            if _COUNTING_PARTITION not in self._vitals.owned:
                self._forget()

    async def _count(self) -> None:
        try:
            await self._ask()
        except (StoreError, OSError):
            self._forget()

    async def _ask(self) -> None:
        store = self._open_store()
        await store.open(write=False)
        try:
            runs, letters = await store.count_runs(), await store.count_letters()
        finally:
            with suppress(StoreError, OSError):
                await store.close()
        self._runs.tell({(status.wire,): runs[status.wire] for status in RunStatus})
        for name, gauge in self._metrics.odd_runs.items():
            gauge.set(runs[name])
        self._letters.tell({(reason,): count for reason, count in letters.items()})
        self._metrics.counted.set(time.time())

    def _forget(self) -> None:
        self._runs.tell({})
        self._letters.tell({})
        for gauge in (*self._metrics.odd_runs.values(), self._metrics.counted):
            gauge.set(nan)
