"""One service process on the embedded default: opens log and store, holds the store's lock, and folds until stopped."""

from __future__ import annotations

import asyncio
import gc
from contextlib import AsyncExitStack, suppress

from runfold.config import Settings
from runfold.log.port import LogMissing, LogSource
from runfold.service.consumer import Consumer
from runfold.service.options import Options
from runfold.service.ownership import Ownership
from runfold.store.port import Store
from runfold.telemetry import Logger, get_logger


class DrainExceeded(Exception):
    """Stopping took longer than RUNFOLD_DRAIN allows: what was not committed is read again at the next start."""


async def serve(settings: Settings, source: LogSource, store: Store, *, until_end: bool, stop: asyncio.Event) -> None:
    """Fold the log into the store until ``stop`` is set, or with ``until_end`` up to the ends that the log has now.

    Raises LogError, StoreError, and DrainExceeded where stopping did not come to an end in time.
    """
    logger = get_logger()
    async with AsyncExitStack() as resources:
        resources.enter_context(store.serve_lock())
        await store.open()
        resources.push_async_callback(store.close)
        await _start_when_there(source, stop, logger, wait=not until_end)
        resources.push_async_callback(source.close)
        if stop.is_set():
            return
        await _fold(settings, source, store, until_end=until_end, stop=stop)


async def _fold(settings: Settings, source: LogSource, store: Store, *, until_end: bool, stop: asyncio.Event) -> None:
    logger = get_logger()
    options = Options(
        batch_records=settings.batch_records,
        batch_bytes=settings.batch_bytes,
        batch_linger=settings.batch_linger,
        open_runs=settings.open_runs,
        lease=settings.lease,
        drain=settings.drain,
        patience=settings.patience,
    )
    ownership = Ownership(source, store, rules=settings.rules, lease=settings.lease, logger=logger)
    consumer = Consumer(source, store, ownership, rules=settings.rules, options=options, logger=logger)
    ends = None
    if until_end:
        ranges = await source.ranges(range(await source.partitions()))
        ends = {partition: held.end for partition, held in ranges.items()}
    _quieten_collector()
    keeping = asyncio.create_task(ownership.keep())
    folding = asyncio.create_task(consumer.run(stop, ends=ends))
    try:
        await _until_drained(folding, stop, options.drain)
    finally:
        for task in (folding, keeping):
            task.cancel()
        await asyncio.wait((folding, keeping))
        if ownership.leases:
            await ownership.release()
    if keeping.done() and not keeping.cancelled() and (error := keeping.exception()) is not None:
        raise error


async def _until_drained(folding: asyncio.Task[None], stop: asyncio.Event, drain: float) -> None:
    """Wait for the consumer; once told to stop, no longer than ``drain`` seconds."""
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((folding, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not folding.done():
            await asyncio.wait((folding,), timeout=drain)
        if not folding.done():
            raise DrainExceeded(
                f"not drained within {drain:g} s (RUNFOLD_DRAIN); the rest is read again at the next start"
            )
        folding.result()
    finally:
        stopping.cancel()


async def _start_when_there(source: LogSource, stop: asyncio.Event, logger: Logger, *, wait: bool) -> None:
    """Open the log; where there is none yet, wait for its first publisher to make it."""
    told = False
    while True:
        try:
            await source.start()
        except LogMissing as error:
            if not wait:
                raise
            if not told:
                logger.warning("waiting_for_log", reason=str(error))
                told = True
        else:
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 0.2)
        if stop.is_set():
            return


def _quieten_collector() -> None:
    """What lives now lives on, and a batch leaves no cycles: look for garbage rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 20)
