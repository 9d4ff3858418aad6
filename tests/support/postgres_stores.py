"""Fixtures for the tests of what befalls PostgreSQL stores: stores opened and closed, a network, an administrator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import pytest
from postgres_proxy import Proxy
from store_batches import bound

from runfold.store.postgres import PostgresStore
from runfold.store.postgres_url import parse_url

Open = Callable[..., Awaitable[PostgresStore]]


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    """Opens stores, bound to their log and fold, and closes them when the test is over."""
    async with AsyncExitStack() as stack:

        async def open_store(url: str, **options: Any) -> PostgresStore:
            store = PostgresStore(url, **options)
            stack.push_async_callback(store.close)
            await bound(store)
            return store

        yield open_store


@pytest.fixture
async def direct(opened: Open, postgres_url: str) -> PostgresStore:
    """The store as it is, past any broken network."""
    return await opened(postgres_url)


@pytest.fixture
async def proxy(postgres_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(postgres_url) as proxy:
        yield proxy


@pytest.fixture
async def admin(postgres_url: str) -> AsyncIterator[Any]:
    """A connection of an administrator, in the store's schema."""
    database = parse_url(postgres_url)
    connection = await asyncpg.connect(database.dsn)
    await connection.execute(f"set search_path = {database.schema}")
    yield connection
    await connection.close()
