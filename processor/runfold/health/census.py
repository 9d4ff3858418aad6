"""Counting what the store holds, now and then: runs by status, what is odd among them or stuck, dead letters.

Whoever holds partition 0 counts, for all; so a store is counted once, however many workers it has. A count reads an index
from end to end, so the next one waits a hundred times as long as the last one took.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from math import nan

from msgspec.structs import replace

from runfold.fold.state import decode_state
from runfold.fold.stuck import REASONS, why_stuck
from runfold.health.metrics import Changing, Metrics
from runfold.health.vitals import Vitals
from runfold.log.clock import wall_clock
from runfold.store.port import RunFilter, Store, StoreError
from runfold_schemas import RunStatus

LEAST_PAUSE = 10.0
_PAUSE_PER_SECOND = 100
_COUNTING_PARTITION = 0
_LOOK_SECONDS = 0.5
_OPEN_RUNS = 1_000
"""Of one question."""


class Census:
    """Counts with a reader of its own, until cancelled; a store that does not answer leaves the figures unknown.

    An open run is stuck where it has not been heard of for ``silent`` seconds, or is past its ``expires_at``.
    """

    def __init__(self, metrics: Metrics, vitals: Vitals, open_store: Callable[[], Store], *, silent: float) -> None:
        self._metrics, self._vitals, self._open_store, self._silent = metrics, vitals, open_store, silent
        self._runs, self._letters = Changing(metrics.runs), Changing(metrics.standing_letters)
        self._stuck = Changing(metrics.stuck_runs)

    async def take(self) -> None:
        """Count whenever it is our turn."""
        due, ours = 0.0, False
        while True:
            was, ours = ours, _COUNTING_PARTITION in self._vitals.owned
            if was and not ours:
                self._forget()
            elif ours and (begun := time.monotonic()) >= due:
                await self._count()
                spent = time.monotonic() - begun
                due = begun + spent + max(LEAST_PAUSE, spent * _PAUSE_PER_SECOND)
            await asyncio.sleep(min(_LOOK_SECONDS, LEAST_PAUSE))

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
            stuck = await _count_stuck(store, silent=self._silent)
        finally:
            with suppress(StoreError, OSError):
                await store.close()
        self._runs.tell({(status.wire,): runs[status.wire] for status in RunStatus})
        for name, gauge in self._metrics.odd_runs.items():
            gauge.set(runs[name])
        self._letters.tell({(reason,): count for reason, count in letters.items()})
        self._stuck.tell({(why,): stuck[why] for why in REASONS})
        self._metrics.counted.set(time.time())

    def _forget(self) -> None:
        self._runs.tell({})
        self._letters.tell({})
        self._stuck.tell({})
        for gauge in (*self._metrics.odd_runs.values(), self._metrics.counted):
            gauge.set(nan)


async def _count_stuck(store: Store, *, silent: float) -> Counter[str]:
    """Open runs that are stuck, by why; by this machine's clock. One that is both is counted by both."""
    found, now = Counter[str](), wall_clock()
    wanted: RunFilter | None = RunFilter(open=True, ascending=True, limit=_OPEN_RUNS)
    while wanted is not None:
        states = [decode_state(row.body) for row in await store.list_runs(wanted)]
        for state in states:
            found.update(why_stuck(state, now=now, silent=silent))
        last = states[-1] if len(states) == _OPEN_RUNS else None
        wanted = None if last is None else replace(wanted, after=(last.created_at, last.run_id))
    return found
