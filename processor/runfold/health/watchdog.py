"""The watchdog: a thread that looks at the log's ends and at the consumer's vitals, by its own timers.

It shares nothing with the fold but the vitals: a store that hangs, a fold that hangs and an event loop that is blocked are
seen from here, and told in metrics and in the log. A process that holds Python's own lock for good answers nobody; that is
for the probe of :mod:`runfold.health.listening` to find.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from typing import cast

from runfold.health.census import Census
from runfold.health.gauging import Gauging
from runfold.health.log_watch import LogWatch
from runfold.health.metrics import Metrics
from runfold.health.stalls import Stall, Stalls
from runfold.health.vitals import Vitals
from runfold.log.port import LogSource
from runfold.store.port import Store
from runfold.telemetry import Logger

LOOK_SECONDS = 1.0
CLOSING_SECONDS = 2.0
_LONGEST_LOOK = 5.0


class Watchdog:
    """Watches one consumer from :meth:`start` to :meth:`stop`.

    ``stuck`` bounds its standing still, ``silent`` the silence of an open run, in seconds.
    """

    def __init__(
        self,
        metrics: Metrics,
        vitals: Vitals,
        *,
        open_source: Callable[[], LogSource],
        open_store: Callable[[], Store],
        stuck: float,
        silent: float,
        logger: Logger,
    ) -> None:
        self._vitals, self._logger = vitals, logger
        self._pause = min(LOOK_SECONDS, stuck / 5)
        self._watch = LogWatch(open_source, timeout=min(_LONGEST_LOOK, stuck / 4))
        self._stalls = Stalls(stuck)
        self._gauging = Gauging(metrics, vitals, self._watch, self._stalls)
        self._census = Census(metrics, vitals, open_store, silent=silent)
        self._thread = Thread(target=self._run, name="runfold-watchdog", daemon=True)
        self._begun = Event()
        self._loop: asyncio.AbstractEventLoop
        self._watching: asyncio.Task[None]
        self._log_there_since: float | None = None
        self._told: set[Stall] = set()
        self._silence_told = False
        self._blocked_told: set[int] = set()

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more. Waits a bounded time for the thread; what hangs there is left behind."""
        if self._begun.wait(CLOSING_SECONDS):
            with suppress(RuntimeError):  # it has died, and its loop is closed
                self._loop.call_soon_threadsafe(self._watching.cancel)
        self._thread.join(CLOSING_SECONDS)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except asyncio.CancelledError:
            pass
        except Exception:
            self._logger.exception("watchdog_died")  # and its heartbeat with it, which makes the service unhealthy

    async def _main(self) -> None:
        self._loop, self._watching = asyncio.get_running_loop(), cast("asyncio.Task[None]", asyncio.current_task())
        self._begun.set()
        counting = asyncio.create_task(self._census.take())
        try:
            while True:
                await self._look()
                await asyncio.sleep(self._pause)
                if counting.done():
                    counting.result()  # it ends by an error alone
        finally:
            counting.cancel()
            await asyncio.gather(counting, return_exceptions=True)
            await self._watch.close()

    async def _look(self) -> None:
        vitals = self._vitals
        error = await self._watch.look(vitals.owned)
        now, vitals.ends = time.monotonic(), self._watch.view.ends
        self._stalls.look(vitals.owned, vitals.ends, now=now)
        stalls = self._stalls.found(loop_turned_at=vitals.turned_at, taking_since=self._taking_since(now), now=now)
        self._gauging.write(stalls)
        self._tell_silence(error)
        self._tell_stalls(stalls)
        self._tell_blocked()

    def _taking_since(self, now: float) -> float | None:
        """Since when partitions are wanted and not had; at the start, since the log is there."""
        vitals = self._vitals
        if vitals.share is None and self._log_there_since is None and self._watch.view.partitions is not None:
            self._log_there_since = now
        wanting = vitals.wanting_since
        return self._log_there_since if wanting is None and vitals.share is None else wanting

    def _tell_silence(self, error: Exception | None) -> None:
        if error is not None and not self._silence_told:
            self._logger.warning("log_not_seen", reason=str(error) or "no answer in time", cause=type(error).__name__)
        elif error is None and self._silence_told:
            self._logger.info("log_seen_again")
        self._silence_told = error is not None

    def _tell_stalls(self, stalls: list[Stall]) -> None:
        now, found = time.monotonic(), set(stalls)
        for stall in found - self._told:
            self._logger.error("stuck", what=stall.what, partition=stall.partition, seconds=round(now - stall.since, 1))
        for stall in self._told - found:
            self._logger.info("stuck_no_more", what=stall.what, partition=stall.partition)
        self._told = found

    def _tell_blocked(self) -> None:
        blocked = self._watch.view.held_back
        for which in blocked.keys() - self._blocked_told:
            self._logger.warning("blocked_by_transaction", partition=which, offsets=blocked[which].offsets)
        self._blocked_told = set(blocked)
