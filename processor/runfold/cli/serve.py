"""``runfold serve``: the long-running consumer, and the signals that stop it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated

from cyclopts import Parameter

from runfold import wiring
from runfold.cli.exits import DONE, INTERRUPTED, NO
from runfold.cli.opening import reading_log
from runfold.cli.options import HERE, Places
from runfold.config import Settings
from runfold.service import serve as service
from runfold.telemetry import get_logger


def serve(
    *,
    until_end: Annotated[bool, Parameter(help="Leave when everything is folded that the log has now.")] = False,
    no_api: Annotated[bool, Parameter(help="Answer nobody over HTTP.")] = False,
    insecure: Annotated[
        bool, Parameter(help="Let anybody read from beyond this machine while there are no keys.")
    ] = False,
    places: Places = HERE,
) -> int:
    """Fold the log into the store, exactly once, until stopped.

    SIGTERM and Ctrl-C finish what is in hand and leave; a second Ctrl-C leaves at once, which loses nothing either.
    """
    settings = places.settings()
    try:
        with nullcontext() if no_api or until_end else api_beside(settings, insecure=insecure):
            asyncio.run(_serve(settings, until_end=until_end))
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
    await service.serve(settings, source, store, until_end=until_end, stop=stop)


def _interrupt(stop: asyncio.Event) -> None:
    if stop.is_set():
        os._exit(INTERRUPTED)  # at once: what is not committed is read again
    stop.set()


def api_beside(settings: Settings, *, insecure: bool) -> AbstractContextManager[None]:
    """The API while a block lasts; nothing where it is not installed, which is told."""
    try:
        from runfold.api.beside import serve_api  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        get_logger().info("api_not_installed", missing=error.name, remedy="pip install 'runfold[api]'")
        return nullcontext()
    return serve_api(settings, insecure=insecure)
