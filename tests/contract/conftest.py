"""The stores of the contract: every test runs over each of them.

``store_factory`` opens the same store again on every call. SQLite runs with key tables of eight young keys, so that keys
settle in nearly every test; and once more as servers have it, which look up keys on their event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from store_contract import FOLD, LOG, StoreFactory

from runfold.store.memory import MemoryStore
from runfold.store.port import Lease, Store
from runfold.store.sqlite import SqliteStore
from runfold.store.sqlite_lane import LoopLane
from runfold.wiring import STORES

ANSWERING = "sqlite of a server"


@pytest.fixture(params=[*sorted(STORES), ANSWERING])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    if request.param == ANSWERING:
        return lambda: SqliteStore(tmp_path / "store.db", young=8, glance=LoopLane)
    if request.param == "sqlite":
        return lambda: SqliteStore(tmp_path / "store.db", young=8)
    if request.param == "memory":
        memory = MemoryStore()
        return lambda: memory
    url = request.getfixturevalue("postgres_url")
    return lambda: STORES[request.param](url)


@pytest.fixture
async def store_factory(make_store: Callable[[], Store]) -> AsyncIterator[StoreFactory]:
    opened = list[Store]()

    async def open_store() -> Store:
        store = make_store()
        await store.open()
        opened.append(store)
        return store

    yield open_store
    for store in opened:
        await store.close()


@pytest.fixture
async def store(store_factory: StoreFactory) -> Store:
    store: Store = await store_factory()
    await store.bind(**LOG, **FOLD)
    return store


@pytest.fixture
async def leases(store: Store) -> dict[int, Lease]:
    return await store.claim("me", {0: 0, 1: 0}, lease=60)
