"""The API beside a running service: in processes of its own, so that answering takes nothing from the fold."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from runfold.api.server import check_answerable, listen, run, url_of
from runfold.api.workers import mind
from runfold.config import ConfigError, Settings
from runfold.store.port import StoreError, StoreUnreachable
from runfold.telemetry import get_logger

LOOK_SECONDS: Final = 0.5


@contextmanager
def serve_api(settings: Settings, *, insecure: bool = False) -> Iterator[None]:
    """Answer while the block lasts. A port that is taken costs the API, not the service: it is told in the log."""
    logger = get_logger()
    try:
        listening = listen(settings)
    except ConfigError as error:
        logger.warning("api_not_started", reason=str(error))
        yield
        return
    told = threading.Event()
    minding = threading.Thread(target=_mind, args=(settings, listening, told, insecure), name="runfold-api")
    minding.start()
    try:
        yield
    finally:
        told.set()
        minding.join()
        listening.close()


def _mind(settings: Settings, listening: socket.socket, told: threading.Event, insecure: bool) -> None:
    logger = get_logger()
    while not told.is_set():
        try:
            asyncio.run(check_answerable(settings, insecure=insecure))
            logger.info("api_listening", url=url_of(listening), workers=settings.api.workers)
            mind(settings, listening, run, told=told)
        except ConfigError as error:
            logger.warning("api_not_started", reason=str(error))
            return
        except StoreUnreachable:
            told.wait(LOOK_SECONDS)  # the service is about to make it
        except StoreError as error:
            logger.warning("api_not_started", reason=str(error))
            return
