"""One worker: opens log and store, folds its share until stopped, and closes what it opened.

Resources close in reverse order. Once stopping, nothing is waited for without a bound: what does not end in time is left
behind, and read again at the next start.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any, NoReturn

from msgspec import Struct, field

from runfold.collector import quieten_collector
from runfold.config import Settings
from runfold.log.port import LogError, LogMissing, LogSource, LogUnreachable
from runfold.service.consumer import Consumer
from runfold.service.ending import Ending
from runfold.service.losses import Losses
from runfold.service.observer import Observer, Unobserved
from runfold.service.options import Options
from runfold.service.ownership import Ownership
from runfold.service.patience import Patience
from runfold.service.trial import Killers
from runfold.store.owners import new_owner
from runfold.store.port import Store, StoreError, StoreUnreachable
from runfold.telemetry import Logger, get_logger

CLOSING_SECONDS = 1.0
"""Bound of each step of closing: giving back the partitions, closing the log, closing the store."""


class DrainExceeded(Exception):
    """Stopping took longer than RUNFOLD_DRAIN allows: what was not committed is read again at the next start.

    A thread may still hang in the store or the log, and Python waits for it at exit: end the process with ``os._exit``.
    """


def leave_hanging(error: DrainExceeded) -> NoReturn:
    """End this process although a thread hangs in the log or the store: Python would wait for it."""
    print(f"runfold: {error}", file=sys.stderr, flush=True)  # noqa: T201 - nobody else will say it
    os._exit(1)


class Orders(Struct, frozen=True, kw_only=True):
    """What one worker is told beside the settings. ``dead`` are owners that are known to be no more, whose leases may end."""

    until_end: bool = False
    accept_loss: bool = False
    owner: str = field(default_factory=new_owner)
    dead: tuple[str, ...] = ()


async def serve(
    settings: Settings,
    source: LogSource,
    store: Store,
    *,
    until_end: bool,
    stop: asyncio.Event,
    accept_loss: bool = False,
    observer: Observer | None = None,
) -> None:
    """As :func:`work`, as the one who serves the store, where only one process may. Raises StoreBusy too."""
    with store.serve_lock():
        orders = Orders(until_end=until_end, accept_loss=accept_loss)
        await work(settings, source, store, orders, stop=stop, observer=observer or Unobserved())


async def work(
    settings: Settings, source: LogSource, store: Store, orders: Orders, *, stop: asyncio.Event, observer: Observer
) -> None:
    """Fold a share of the log into the store until ``stop`` is set, or up to the ends that the whole log has now.

    ``observer`` is told of every batch and of the partitions held. Who takes the place of a dead one bears with a log and a
    store that are away while it opens them: the service had them, and goes on. Anybody else is told at once.

    Raises LogError, StoreError, and DrainExceeded where stopping did not come to an end in time.
    """
    logger = get_logger()
    async with AsyncExitStack() as resources:
        resources.push_async_callback(_in_time, store.close, logger)
        bear = Patience(settings.patience if orders.dead else 0, stop).bear
        await _started(store.open, bear, stop, logger)
        resources.push_async_callback(_in_time, source.close, logger)
        start = source.start if orders.until_end else partial(_start_when_there, source, stop, logger)
        await _started(start, bear, stop, logger)
        if orders.dead:
            await _started(partial(store.bury, orders.dead), bear, stop, logger)
        if not stop.is_set():
            await _fold(settings, source, store, orders, stop=stop, observer=observer)


async def _fold(
    settings: Settings, source: LogSource, store: Store, orders: Orders, *, stop: asyncio.Event, observer: Observer
) -> None:
    logger = get_logger()
    options = Options.of(settings)
    told: dict[str, Any] = {"rules": settings.rules, "logger": logger, "observer": observer}
    ownership = Ownership(
        source,
        store,
        owner=orders.owner,
        lease=settings.lease,
        losses=Losses(store, accept=orders.accept_loss, logger=logger),
        killers=Killers(store, reach=options.batch_records, logger=logger),
        **told,
    )
    consumer = Consumer(source, store, ownership, options=options, **told)
    ending = None
    if orders.until_end:
        ranges = await source.ranges(range(await source.partitions()))
        ending = Ending(source, store, {partition: held.end for partition, held in ranges.items()})
    quieten_collector()
    keeping = asyncio.create_task(ownership.keep())
    folding = asyncio.create_task(consumer.run(stop, ending=ending))
    try:
        await _until_drained(folding, keeping, stop, drain=options.drain)
    finally:
        for task in (folding, keeping):
            task.cancel()
        await asyncio.gather(folding, keeping, return_exceptions=True)
        await _in_time(ownership.leave, logger)


async def _until_drained(
    folding: asyncio.Task[None], keeping: asyncio.Task[None], stop: asyncio.Event, *, drain: float
) -> None:
    """Wait for the consumer; once told to stop, no longer than ``drain`` seconds. Raises what either task raised."""
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((folding, keeping, stopping), return_when=asyncio.FIRST_COMPLETED)
        if keeping.done():
            keeping.result()  # it ends by an error alone, and nothing may be folded without it
        if not folding.done():
            await asyncio.wait((folding,), timeout=drain)
        if not folding.done():
            raise DrainExceeded(
                f"not drained within {drain:g} s (RUNFOLD_DRAIN); the rest is read again at the next start"
            )
        folding.result()
    finally:
        stopping.cancel()


async def _in_time(close: Callable[[], Awaitable[None]], logger: Logger) -> None:
    """Close something within its bound. What fails here must not hide the reason for closing, so it is told only."""
    try:
        async with asyncio.timeout(CLOSING_SECONDS):
            await close()
    except TimeoutError:
        logger.warning("left_behind", what=close.__qualname__, seconds=CLOSING_SECONDS)
    except (LogError, StoreError) as error:
        logger.warning("closed_with_error", what=close.__qualname__, reason=str(error))


async def _started(
    start: Callable[[], Awaitable[None]],
    bear: Callable[[Exception], Awaitable[None]],
    stop: asyncio.Event,
    logger: Logger,
) -> None:
    """Start something, again and again while what it needs is away and that is borne, or until told to stop."""
    while not stop.is_set():
        try:
            await start()
        except (StoreUnreachable, LogUnreachable) as error:
            await bear(error)
            logger.warning("not_started_yet", reason=str(error))
        else:
            return


async def _start_when_there(source: LogSource, stop: asyncio.Event, logger: Logger) -> None:
    """Open the log; where there is none yet, wait for its first publisher to make it, or until told to stop."""
    told = False
    while not stop.is_set():
        try:
            await source.start()
        except LogMissing as error:
            if not told:
                logger.warning("waiting_for_log", reason=str(error))
            told = True
        else:
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 0.2)
