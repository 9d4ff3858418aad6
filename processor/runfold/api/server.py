"""The server: listens, opens log and store for each process that answers, and closes them behind the last answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

import uvicorn
from litestar.types import ASGIApp

from runfold import wiring
from runfold.api.api import Api
from runfold.api.app import create_app
from runfold.api.connection import Connection
from runfold.api.log_access import LogAccess
from runfold.api.manners import LOOPBACK
from runfold.api.workers import mind, until_signalled
from runfold.collector import quieten_collector
from runfold.config import ConfigError, Settings
from runfold.log.port import LogError
from runfold.store.port import Store

DRAIN_SECONDS: Final = 5
"""So long may answers that are under way take once we are told to stop."""

LOG_SECONDS: Final = 2.0
"""So long the first answer waits for a log that is slow to open."""

BACKLOG: Final = 2048


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Api]:
    """What the rooms read, opened. Raises StoreError where there is no store to read; the log may come later."""
    async with _store(settings) as store:
        api = Api.of(settings, store=store, log=LogAccess(partial(wiring.open_source, settings)))
        try:
            with suppress(LogError, TimeoutError):
                async with asyncio.timeout(LOG_SECONDS):
                    await api.log.source()
            yield api
        finally:
            await api.close()


@asynccontextmanager
async def _store(settings: Settings) -> AsyncIterator[Store]:
    store = wiring.open_answering_store(settings)
    await store.open(write=False)
    try:
        yield store
    finally:
        await store.close()


async def check_answerable(settings: Settings, *, insecure: bool) -> None:
    """Raise StoreError where there is nothing to answer from, ConfigError where strangers could ask without a key."""
    async with _store(settings) as store:
        exposed = settings.api.host not in LOOPBACK and not insecure
        if exposed and not await store.keys():
            raise ConfigError(
                f"RUNFOLD_API_HOST: at {settings.api.host} strangers can ask, and there are no keys yet: make one with "
                "`runfold keys create`, or say --insecure to let anybody read"
            )


def listen(settings: Settings) -> socket.socket:
    """A socket that listens where the settings say. Raises ConfigError."""
    host, port = settings.api.host, settings.api.port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"RUNFOLD_API_HOST, RUNFOLD_API_PORT: nothing can listen at {host}:{port} ({error})"
        ) from error


def url_of(listening: socket.socket) -> str:
    """Where a listening socket is asked."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def answer(settings: Settings, listening: socket.socket, *, stop: asyncio.Event | None = None) -> None:
    """Answer on a listening socket until ``stop`` is set, or where none is given until SIGINT or SIGTERM.

    It may run on any thread, on a loop of its own; only on the main one does it take signals.
    """
    async with opened(settings) as api:
        door = create_app(api, beyond_loopback=settings.api.host not in LOOPBACK)
        server = _Server(configured(door), api.stopping)
        stopping = None if stop is None else asyncio.create_task(_stop_when(stop, server))
        quieten_collector()
        try:
            await server.serve(sockets=[listening])
        finally:
            if stopping is not None:
                stopping.cancel()
            await door.close()


class _Server(uvicorn.Server):
    """Tells answers that have no end of their own to find one, before it waits for them."""

    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event) -> None:
        super().__init__(config)
        self._stopping = stopping

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping.set()
        await super().shutdown(sockets)


def configured(app: ASGIApp) -> uvicorn.Config:
    """How uvicorn is run: silent (the door tells what fails), and without telling who we are."""
    return uvicorn.Config(
        app,
        http=Connection,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=DRAIN_SECONDS,
        lifespan="on",
        backlog=BACKLOG,
    )


def serve_workers(settings: Settings, listening: socket.socket) -> None:
    """Answer by several processes, until SIGINT or SIGTERM. Raises StoreUnreachable where they cannot begin."""
    with until_signalled() as told:
        mind(settings, listening, run, told=told)


def run(settings: Settings, listening: socket.socket) -> None:
    """Answer by this process, until SIGINT or SIGTERM."""
    with asyncio.Runner(loop_factory=uvicorn.Config("", log_config=None).get_loop_factory()) as runner:
        runner.run(answer(settings, listening))


async def _stop_when(stop: asyncio.Event, server: uvicorn.Server) -> None:
    await stop.wait()
    server.should_exit = True
