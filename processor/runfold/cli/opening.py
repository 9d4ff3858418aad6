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
    async with _reading(wiring.open_source(settings)) as source:
        yield source


@asynccontextmanager
async def reading_whole_log(settings: Settings) -> AsyncIterator[LogSource]:
    """The log, and what it has forgotten from the archive of RUNFOLD_ARCHIVE. Raises LogError where they do not fit."""
    async with _reading(wiring.open_whole_log(settings)) as source:
        yield source


@asynccontextmanager
async def reading_archive(settings: Settings) -> AsyncIterator[LogSource]:
    """The archive alone. Raises LogMissing where there is none, ArchiveDamaged where a segment is missing."""
    async with _reading(wiring.open_archive(settings)) as source:
        yield source


@asynccontextmanager
async def _reading(source: LogSource) -> AsyncIterator[LogSource]:
    try:
        await source.start()
        yield source
    finally:
        await source.close()
