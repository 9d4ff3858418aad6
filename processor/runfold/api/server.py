"""The server: listens, opens log and store for each process that answers, and closes them behind the last answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import uvicorn
from litestar.types import ASGIApp

from runfold import wiring
from runfold.api.api import Api
from runfold.api.app import create_app
from runfold.api.log_access import LogAccess
from runfold.config import ConfigError, Settings

LOOPBACK = ("127.0.0.1", "localhost", "::1")
DRAIN_SECONDS = 5


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Api]:
    """What the rooms read, opened. Raises StoreError where there is no store to read."""
    store = wiring.open_answering_store(settings)
    await store.open(write=False)
    log = LogAccess(partial(wiring.open_source, settings))
    api = Api.of(settings, store=store, log=log)
    try:
        yield api
    finally:
        await api.freshness.close()
        await log.close()
        await store.close()


async def serve_api(settings: Settings, *, listening: socket.socket, stop: asyncio.Event | None = None) -> None:
    """Answer on a listening socket until ``stop`` is set, or where none is given until SIGINT or SIGTERM."""
    async with opened(settings) as api:
        beyond = settings.api.host not in LOOPBACK
        server = uvicorn.Server(configured(create_app(api, beyond_loopback=beyond)))
        if stop is not None:
            watching = asyncio.create_task(_leave_when(stop, server))
        await server.serve(sockets=[listening])
        if stop is not None:
            watching.cancel()


def configured(app: ASGIApp) -> uvicorn.Config:
    """How uvicorn is run: quiet (the door logs what fails), without telling who we are."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=DRAIN_SECONDS,
        lifespan="on",
    )


def listen(settings: Settings) -> socket.socket:
    """A socket that listens where the settings say. Raises ConfigError."""
    host, port = settings.api.host, settings.api.port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(
            f"RUNFOLD_API_HOST, RUNFOLD_API_PORT: nothing can listen at {host}:{port} ({error})"
        ) from error


async def _leave_when(stop: asyncio.Event, server: uvicorn.Server) -> None:
    await stop.wait()
    server.should_exit = True
