"""The PostgreSQL store under broken connections: wherever they break, it is as before or as after, and goes on."""

# ruff: noqa: ASYNC110 - what is waited for is the state of a connection, which tells nobody

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from postgres_proxy import Proxy
from postgres_stores import Open
from store_batches import batch, claim, dumped, refold

from runfold.store import postgres_connection
from runfold.store.port import Store, StoreUnreachable
from runfold.store.postgres import PostgresStore

Step = Callable[[Store], Awaitable[Any]]


async def prepare_batch(store: Store) -> Step:
    """A second batch, so that it updates rows; warm, so that nothing is left to be prepared."""
    leases = await claim(store)
    handles = await store.apply(batch(0), leases)
    old = {run_id: handle for (_, run_id), handle in handles.items()}
    handles = await store.apply(batch(1, old=old), leases)
    third = batch(2, old=old | {run_id: handle for (_, run_id), handle in handles.items()})

    async def step(store: Store) -> None:
        await store.apply(third, await claim(store))

    return step


async def prepare_door(store: Store) -> Step:
    await store.apply(batch(0), await claim(store))
    return lambda store: store.write_through_door(refold())


@pytest.mark.parametrize("afterwards", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("prepare", [prepare_batch, prepare_door])
async def test_a_connection_cut_at_any_request_leaves_before_or_after(
    opened: Open, postgres_database: str, prepare: Callable[[Store], Awaitable[Step]], afterwards: bool
) -> None:
    """For every n: cut at request n, COMMIT among them, all or nothing is written, and the store itself goes on."""
    outcomes, point, whole = list[bool](), 0, list[bytes]()
    while True:
        point += 1
        url = f"{postgres_database}?schema=cut_{prepare.__name__}_{afterwards}_{point}".lower()
        async with Proxy(url) as proxy:
            store, direct = await opened(proxy.url), await opened(url)
            step = await prepare(store)
            before = await dumped(direct)
            proxy.requests, proxy.cut_at, proxy.afterwards = 0, point, afterwards
            try:
                await step(store)
            except StoreUnreachable:
                proxy.cut_at = 0
                await claim(store)  # waits for what the server may still be doing, and tells what became of it
                left = await dumped(direct)
                outcomes.append(left != before)
                if left == before:
                    await step(store)
                    left = await dumped(direct)
                whole = whole or left
                assert left == whole
            else:
                assert await dumped(direct) == whole
                break
            finally:
                proxy.cut_at = 0
                await store.close()
                await direct.close()
    assert len(outcomes) > 8
    assert outcomes == sorted(outcomes)
    assert outcomes[-1] == afterwards  # the last request is the COMMIT


async def test_a_lost_connection_is_made_anew(opened: Open, proxy: Proxy, direct: PostgresStore) -> None:
    """Whoever reads or loads after all connections were cut between two calls does not even notice."""
    store = await opened(proxy.url)
    await direct.apply(batch(0), await claim(direct))
    await store.load(0, ["run_0_1"])
    await store.find_run("run_0_1")
    proxy.cut()
    while store._load()._session.connection.is_closed() is False:
        await asyncio.sleep(0)
    assert len(await store.load(0, ["run_0_1"])) == 1
    assert len(await store.find_run("run_0_1")) == 1


async def test_a_server_that_is_away_is_not_stormed(
    opened: Open, proxy: Proxy, direct: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each failed attempt to connect makes the next one wait longer; once the server is back, all is well."""
    monkeypatch.setattr(postgres_connection, "FIRST_PAUSE", 0.02)
    store = await opened(proxy.url)
    proxy.refusing, proxy.attempts = True, 0
    proxy.cut()
    begun, failures = asyncio.get_running_loop().time(), 0
    while asyncio.get_running_loop().time() < begun + 1:
        with pytest.raises(StoreUnreachable, match="RUNFOLD_STORE"):
            await store.load(0, ["run_0_1"])
        failures += 1
    assert 3 <= proxy.attempts <= 8
    proxy.refusing = False
    await store.load(0, ["run_0_1"])


async def test_a_network_that_swallows_is_noticed(opened: Open, proxy: Proxy, direct: PostgresStore) -> None:
    """Where no answer comes at all, work ends with StoreUnreachable after its bound, and the next one succeeds."""
    store = await opened(proxy.url)
    leases = await claim(store)
    store._write()._patience = 0.3
    proxy.swallowing = True
    with pytest.raises(StoreUnreachable, match="in time"):
        await store.apply(batch(0), leases)
    proxy.swallowing = False
    await store.apply(batch(0), await claim(store))


async def test_an_owner_ends_its_own_lost_connection(
    opened: Open, proxy: Proxy, direct: PostgresStore, postgres_url: str
) -> None:
    """Where the server still waits, locks held, for a client that is gone, the same owner has its partitions back at once."""
    store = await opened(proxy.url)
    leases = await claim(store)
    await store.apply(batch(0), leases)
    store._write()._patience = 0.3
    proxy.deserting, proxy.cut_at = True, proxy.requests + 3  # in the middle of the transaction
    proxy.cut = lambda: setattr(proxy, "swallowing", True)  # type: ignore[method-assign]
    with pytest.raises(StoreUnreachable):
        await store.apply(batch(1), leases)
    proxy.cut_at, proxy.swallowing = 0, False
    store._write()._patience = 10
    begun = asyncio.get_running_loop().time()
    assert set(await claim(store)) == {0, 1}
    assert asyncio.get_running_loop().time() - begun < 5  # far less than the server's own patience
    del proxy.cut


async def test_an_abandoned_batch_is_finished_before_closing(
    opened: Open, direct: PostgresStore, postgres_url: str
) -> None:
    """A caller who goes leaves its batch to its end; close waits for it."""
    store = await opened(postgres_url)
    applying = asyncio.ensure_future(store.apply(batch(0), await claim(store)))
    await asyncio.sleep(0)
    applying.cancel()
    await store.close()
    assert (await direct.partitions())[0].position == 1


async def test_closing_has_an_end_when_the_server_has_none(opened: Open, proxy: Proxy, direct: PostgresStore) -> None:
    """Cancelled while the network swallows, close ends at once and leaves no connection open."""
    store = await opened(proxy.url)
    leases = await claim(store)
    proxy.swallowing = True
    applying = asyncio.ensure_future(store.apply(batch(0), leases))
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await store.close()
    assert type((await asyncio.gather(applying, return_exceptions=True))[0]) in (
        StoreUnreachable,
        asyncio.CancelledError,
    )
