"""A consumer that is watched: vitals, watchdog and health server for the time of a service, closed in reverse order."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from runfold.config import OFF, Settings
from runfold.health.listening import HealthServer
from runfold.health.metrics import Metrics
from runfold.health.vitals import Vitals
from runfold.health.watchdog import Watchdog
from runfold.health.workers import Place, Workers
from runfold.log.port import LogSource
from runfold.service.observer import Observer
from runfold.store.port import Store
from runfold.telemetry import get_logger


@asynccontextmanager
async def watched(
    settings: Settings, *, open_source: Callable[[], LogSource], open_store: Callable[[], Store]
) -> AsyncIterator[Observer]:
    """The observer of a consumer on this event loop. ``open_source`` and ``open_store`` make readers of our own.

    Raises ConfigError where RUNFOLD_HEALTH cannot be listened at.
    """
    logger = get_logger()
    async with AsyncExitStack() as resources:
        metrics = Metrics()
        vitals = Vitals(metrics)
        if settings.health != OFF:
            server = HealthServer(settings, metrics.registry, logger)
            resources.push_async_callback(asyncio.to_thread, server.close)
        watchdog = Watchdog(
            metrics,
            vitals,
            open_source=open_source,
            open_store=open_store,
            stuck=settings.stuck,
            silent=settings.api.silent,
            logger=logger,
        )
        watchdog.start()
        resources.push_async_callback(asyncio.to_thread, watchdog.stop)
        ticking = asyncio.create_task(vitals.tick())
        resources.push_async_callback(_end, ticking)
        yield vitals


@asynccontextmanager
async def watched_together(settings: Settings, places: Sequence[Place]) -> AsyncIterator[Callable[[int], None]]:
    """Health and metrics of several workers, served by their parent; what is yielded is told the pid of each that ended.

    Entered before the first one starts, for they inherit where to write what they have to say. Raises as :func:`watched`.
    """
    with Workers(places) as workers:
        os.environ.update(workers.environment)
        server = None if settings.health == OFF else HealthServer(settings, workers, get_logger())
        try:
            yield workers.ended
        finally:
            for name in workers.environment:
                del os.environ[name]
            if server is not None:
                await asyncio.to_thread(server.close)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait((task,))
