"""PostgreSQL is restarted, and connections to it are cut, while workers fold a topic of Kafka's into it."""

from __future__ import annotations

import asyncio
import signal

import pytest
from postgres_proxy import Proxy
from under_fire import assert_all_folded


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["crash", "restart"])
async def test_postgres_is_restarted(work, postgres_own_server, light, how):
    """Workers bear with a database that goes away at random instants, and read on from where it stands."""
    server = postgres_own_server
    fleet = await light(work.log, server.url)
    async for _ in fleet.instants(work):
        await asyncio.to_thread(server.stop, how)
        await fleet.tell(f"PostgreSQL ended by {how.name}")
        await asyncio.to_thread(server.start)
    await assert_all_folded(fleet, work)


@pytest.mark.parametrize("afterwards", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("where", ["anywhere", "commit"])
async def test_connections_are_cut(work, postgres_url, light, where, afterwards):
    """A network that breaks in the middle of a transaction or of its COMMIT, before or after the server heard of it."""
    async with Proxy(postgres_url) as proxy:
        proxy.afterwards = afterwards
        fleet = await light(work.log, proxy.url, eye=postgres_url)
        async for _ in fleet.instants(work):
            await cut(fleet, proxy, where)
        await assert_all_folded(fleet, work)


async def cut(fleet, proxy, where):
    before = proxy.cuts
    if where == "commit":
        proxy.cut_in = b"commit"
    else:
        proxy.cut_at = proxy.requests + fleet.random.randrange(1, 30)
    async with asyncio.timeout(30):
        while proxy.cuts == before:  # noqa: ASYNC110 - the network tells nobody
            await asyncio.sleep(0.001)
    await fleet.tell(f"cut in request {proxy.cut_at}")
    proxy.cut_at = 0
