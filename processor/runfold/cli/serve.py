"""``runfold serve``: the long-running consumer, in this process or in several, and the signals that stop it."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Annotated

from cyclopts import Parameter, validators
from msgspec import structs

from runfold import wiring
from runfold.cli.exits import DONE, INTERRUPTED, NO, tell_cause
from runfold.cli.opening import reading_log
from runfold.cli.options import HERE, Places
from runfold.cli.worker import run_worker
from runfold.config import OFF, Settings
from runfold.health.watching import watched, watched_together
from runfold.service import serve as service
from runfold.service.supervisor import WorkerRefused, supervise
from runfold.telemetry import get_logger


def serve(
    *,
    workers: Annotated[
        int, Parameter(validator=validators.Number(gte=1, lte=256), help="Processes that share the partitions.")
    ] = 1,
    until_end: Annotated[bool, Parameter(help="Leave when everything is folded that the log has now.")] = False,
    accept_loss: Annotated[
        bool, Parameter(help="Go on behind records that the log lost before they were folded; that is recorded.")
    ] = False,
    health: Annotated[
        str | None, Parameter(help="Where /healthz, /readyz and /metrics answer: HOST:PORT, or off (RUNFOLD_HEALTH).")
    ] = None,
    no_api: Annotated[bool, Parameter(help="Answer nobody over HTTP.")] = False,
    insecure: Annotated[
        bool, Parameter(help="Let anybody read from beyond this machine while there are no keys.")
    ] = False,
    places: Places = HERE,
) -> int:
    """Fold the log into the store, exactly once, until stopped.

    Workers share the partitions, also with those on other machines that serve the same PostgreSQL store. SIGTERM and Ctrl-C
    finish what is in hand and leave; a second Ctrl-C leaves at once, which loses nothing either.
    """
    settings = places.settings({"health": health})
    orders = service.Orders(until_end=until_end, accept_loss=accept_loss)
    if until_end and settings.origins["health"] == "default":
        settings = structs.replace(settings, health=OFF)  # a job that ends by itself is nothing to probe
    with nullcontext() if no_api or until_end else api_beside(settings, insecure=insecure):
        return _serve_together(settings, orders, workers) if workers > 1 else _serve_alone(settings, orders)


def _serve_alone(settings: Settings, orders: service.Orders) -> int:
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
    open_source, open_store = partial(wiring.open_source, settings), partial(wiring.open_store, settings)
    with store.serve_lock():
        async with watched(settings, open_source=open_source, open_store=open_store) as observer:
            await service.work(settings, source, store, orders, stop=stop, observer=observer)


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
            beside=partial(watched_together, settings),
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


def api_beside(settings: Settings, *, insecure: bool) -> AbstractContextManager[None]:
    """The API while a block lasts; nothing where it is not installed, which is told."""
    try:
        from runfold.api.beside import serve_api  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        get_logger().info("api_not_installed", missing=error.name, remedy="pip install 'runfold[api]'")
        return nullcontext()
    return serve_api(settings, insecure=insecure)
