"""``runfold serve``: the long-running consumer, and the signals that stop it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from functools import partial
from typing import Annotated

from cyclopts import Parameter
from msgspec import structs

from runfold import wiring
from runfold.cli.exits import DONE, INTERRUPTED, NO
from runfold.cli.opening import reading_log
from runfold.cli.options import HERE, Places
from runfold.config import OFF, Settings
from runfold.health.watching import watched
from runfold.service import serve as service


def serve(
    *,
    until_end: Annotated[bool, Parameter(help="Leave when everything is folded that the log has now.")] = False,
    health: Annotated[
        str | None, Parameter(help="Where /healthz, /readyz and /metrics answer: HOST:PORT, or off (RUNFOLD_HEALTH).")
    ] = None,
    places: Places = HERE,
) -> int:
    """Fold the log into the store, exactly once, until stopped.

    SIGTERM and Ctrl-C finish what is in hand and leave; a second Ctrl-C leaves at once, which loses nothing either.
    """
    try:
        asyncio.run(_serve(places.settings(health=health), until_end=until_end))
    except service.DrainExceeded as error:
        print(f"runfold: {error}", file=sys.stderr, flush=True)  # noqa: T201 - nobody else will say it
        os._exit(NO)  # a thread hangs in the log or the store, and Python would wait for it
    return DONE


async def _serve(settings: Settings, *, until_end: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, _interrupt, stop)
    if until_end:
        async with reading_log(settings):
            pass  # where there is no log nothing is made, no folder and no store
    source, store = wiring.open_source(settings), wiring.open_store(settings, make_folder=True)
    if until_end and settings.origins["health"] == "default":
        settings = structs.replace(settings, health=OFF)  # a job that ends by itself is nothing to probe
    open_source, open_store = partial(wiring.open_source, settings), partial(wiring.open_store, settings)
    async with watched(settings, open_source=open_source, open_store=open_store) as observer:
        await service.serve(settings, source, store, until_end=until_end, stop=stop, observer=observer)


def _interrupt(stop: asyncio.Event) -> None:
    if stop.is_set():
        os._exit(INTERRUPTED)  # at once: what is not committed is read again
    stop.set()
