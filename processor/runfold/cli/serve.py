"""``runfold serve``: the long-running consumer, in this process or in several, and the signals that stop it."""

from __future__ import annotations

import asyncio
import os
import signal
from functools import partial
from typing import Annotated

from cyclopts import Parameter, validators

from runfold import wiring
from runfold.cli.exits import DONE, INTERRUPTED, NO, tell_cause
from runfold.cli.opening import reading_log
from runfold.cli.options import HERE, Places
from runfold.cli.worker import run_worker
from runfold.config import Settings
from runfold.service import serve as service
from runfold.service.supervisor import WorkerRefused, supervise


def serve(
    *,
    workers: Annotated[
        int, Parameter(validator=validators.Number(gte=1, lte=256), help="Processes that share the partitions.")
    ] = 1,
    until_end: Annotated[bool, Parameter(help="Leave when everything is folded that the log has now.")] = False,
    accept_loss: Annotated[
        bool, Parameter(help="Go on behind records that the log lost before they were folded; that is recorded.")
    ] = False,
    places: Places = HERE,
) -> int:
    """Fold the log into the store, exactly once, until stopped.

    Workers share the partitions, also with those on other machines that serve the same PostgreSQL store. SIGTERM and Ctrl-C
    finish what is in hand and leave; a second Ctrl-C leaves at once, which loses nothing either.
    """
    settings, orders = places.settings(), service.Orders(until_end=until_end, accept_loss=accept_loss)
    if workers > 1:
        return _serve_together(settings, orders, workers)
    try:
        asyncio.run(_serve(settings, orders))
    except service.DrainExceeded as error:
        service.leave_hanging(error)
    return DONE


def _serve_together(settings: Settings, orders: service.Orders, workers: int) -> int:
    try:
        asyncio.run(_supervise(settings, orders, workers))
    except WorkerRefused as refused:
        tell_cause(str(refused))
        return refused.code
    except service.DrainExceeded as error:
        tell_cause(str(error))
        return NO
    return DONE


async def _serve(settings: Settings, orders: service.Orders) -> None:
    stop = _stop_signals()
    await _check_log(settings, orders)
    source, store = wiring.open_source(settings), wiring.open_store(settings, make_folder=True)
    with store.serve_lock():
        await service.work(settings, source, store, orders, stop=stop)


async def _supervise(settings: Settings, orders: service.Orders, workers: int) -> None:
    """The parent is who serves the store: it holds its lock, and has made and freed it before the first worker starts."""
    stop = _stop_signals()
    await _check_log(settings, orders)
    store = wiring.open_store(settings, make_folder=True)
    with store.serve_lock():
        await store.open()
        await store.close()
        await supervise(
            partial(run_worker, settings, orders),
            workers,
            until_end=orders.until_end,
            stop=stop,
            drain=settings.drain,
        )


async def _check_log(settings: Settings, orders: service.Orders) -> None:
    """Where there is no log nothing is made, no folder and no store."""
    if orders.until_end:
        async with reading_log(settings):
            pass


def _stop_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, _interrupt, stop)
    return stop


def _interrupt(stop: asyncio.Event) -> None:
    if stop.is_set():
        os._exit(INTERRUPTED)  # at once, and workers with it: what is not committed is read again
    stop.set()
