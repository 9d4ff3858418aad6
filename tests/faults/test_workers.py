"""Workers that are killed, frozen, woken, added and taken away: the store is that of a quiet fold of the same topic."""

from __future__ import annotations

import asyncio

from under_fire import LEASE, assert_same


async def test_killed_at_random_instants(filled, scale, store_url, light):
    """Workers that die by SIGKILL at random instants of their work lose no event and fold none twice."""
    fleet = await light(filled.log, store_url)
    async for _ in fleet.instants(filled, scale.times):
        await fleet.kill(await fleet.at_work())
    assert_same(await fleet.folded(filled), filled.quiet)


async def test_zombies(filled, scale, store_url, light):
    """Workers stopped for longer than their lease, and then woken, write nothing that a successor has folded."""
    fleet = await light(filled.log, store_url)
    async for position in fleet.instants(filled, scale.times):
        zombie = await fleet.at_work()
        await fleet.freeze(zombie)
        if fleet.most > 1:
            await fleet.reached(position + 1_000)
        else:
            await asyncio.sleep(1.2 * LEASE)
        await fleet.thaw(zombie)
    assert_same(await fleet.folded(filled), filled.quiet)
