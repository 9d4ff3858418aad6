"""Log and store for the time of one verb: opened, handed out, closed in reverse order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from runfold import wiring
from runfold.config import Settings
from runfold.log.port import LogSource
from runfold.store.port import Store


@asynccontextmanager
async def reading_store(settings: Settings) -> AsyncIterator[Store]:
    """The store, to read. Raises StoreUnreachable where there is none."""
    store = wiring.open_store(settings)
    await store.open(write=False)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def writing_store(settings: Settings) -> AsyncIterator[Store]:
    """The store that exists, to write notes and refolds; beside a living service. Raises as :func:`reading_store`."""
    async with reading_store(settings):
        pass  # opening it to write would make a new one where the path is wrong
    store = wiring.open_store(settings)
    await store.open(write=True)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def reading_log(settings: Settings) -> AsyncIterator[LogSource]:
    """The log, to read. Raises LogMissing or LogUnreachable."""
    source = wiring.open_source(settings)
    try:
        await source.start()
        yield source
    finally:
        await source.close()
