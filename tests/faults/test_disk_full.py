"""The disk under a store fills up while a topic is folded: workers say so, and go on by themselves once there is room."""

from __future__ import annotations

import asyncio

import asyncpg
from postgres_server import NOBODY
from small_disk import small_disk
from under_fire import assert_same


async def filled_up(fleet, filled):
    """Wait until a worker has said that the disk is full, which it is before the work is done."""
    await fleet.until(lambda _: any("full" in line["reason"] for each in fleet.living for line in dropped(each)))
    await fleet.tell("disk full")
    assert await fleet.position() < filled.records


def dropped(worker):
    return worker.events("batch_dropped")


async def test_under_an_embedded_store(filled, scale, light):
    """SQLite: whole batches or nothing, and with room again the very same processes fold the rest."""
    with small_disk(scale.records // 5_000) as disk:
        fleet = await light(filled.log, f"sqlite:///{disk.folder / 'runfold.db'}")
        fleet.fill()
        await filled_up(fleet, filled)
        disk.resize(500)
        assert_same(await fleet.folded(filled), filled.quiet)


async def test_under_postgresql(filled, scale, postgres_own_server, light):
    """PostgreSQL: a table's disk is full; the batch is refused whole, and with room again the same workers fold the rest."""
    with small_disk(scale.records // 5_000, owner=NOBODY) as disk:
        fleet = await light(filled.log, postgres_own_server.url)
        administrator = await asyncpg.connect(postgres_own_server.url)
        await administrator.execute(f"create tablespace small location '{disk.folder}'")
        await administrator.execute("alter table runfold.run set tablespace small")
        fleet.fill()
        await filled_up(fleet, filled)
        disk.resize(500)
        assert_same(await fleet.folded(filled), filled.quiet)
        await administrator.close()
        await asyncio.to_thread(postgres_own_server.stop)
