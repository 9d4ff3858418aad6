"""PostgreSQL is restarted, and connections to it are cut, while workers fold a topic of Kafka's into it."""

from __future__ import annotations

import asyncio
import signal

import pytest
from fire_topics import log_of, looked_at, publishing
from postgres_proxy import Proxy
from under_fire import assert_all_folded, assert_same, owner_of


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


@pytest.mark.usefixtures("collector")
async def test_a_worker_dies_while_postgres_is_away(make_topic, postgres_own_server, light, random):
    """The one that is started in its place waits for the database too: a service that serves does not end for that."""
    topic, server = make_topic(8), postgres_own_server
    fleet = await light(log_of(topic), server.url, options=("--workers", "2"))
    fleet.most = 1
    async with publishing(topic, random):
        fleet.fill()
        await fleet.reached(1_000)
        await fleet.until(lambda found: len({owner_of(each) for each in found} - {None}) == 2)  # both have started
        dying = await fleet.at_work()
        await asyncio.to_thread(server.stop)
        await fleet.kill(dying)
        await waiting(fleet)
        await asyncio.to_thread(server.start)
        await fleet.until(lambda found: len({owner_of(each) for each in found} - {None, dying.pid}) == 2)
    filled = await looked_at(topic)
    assert_same(await fleet.folded(filled), filled.quiet)


async def waiting(fleet):
    """Until a worker has said that it cannot start yet."""
    async with asyncio.timeout(30):
        while not any(worker.events("not_started_yet") for worker in fleet.living):  # noqa: ASYNC110 - it tells its log
            await asyncio.sleep(0.05)


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
