"""Workers that are killed, frozen, woken, added and taken away: the store is that of a quiet fold of the same topic."""

from __future__ import annotations

import asyncio
import signal
from functools import partial

import pytest
from fire_topics import log_of, looked_at, publishing
from under_fire import LEASE, assert_same

from runfold.store.postgres_leases import TAKEOVER_SECONDS

DRAIN = 10.0
"""The deadline that RUNFOLD_DRAIN sets when nobody sets it."""
SLACK = 6.0
"""For looking, for waiting at the lock, and of a machine that has other things to do."""


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


async def test_processes_of_one_serve(filled, scale, store_url, light):
    """Those of `serve --workers` die and freeze by themselves: the others take over, and the dead are started again."""
    fleet = await light(filled.log, store_url, options=("--workers", "3"))
    fleet.most = 1
    async for position in fleet.instants(filled, scale.times):
        hand = await fleet.at_work()
        if fleet.random.random() < 0.5:
            await fleet.kill(hand)
            continue
        await fleet.freeze(hand)
        await fleet.reached(position + 1_000)
        await fleet.thaw(hand)
    assert_same(await fleet.folded(filled), filled.quiet)


async def test_frozen_inside_its_transaction(filled, scale, postgres_url, light, backends):
    """A worker that stops in the middle of its transaction, locks in hand, holds its successor up no longer than the bound."""
    fleet = await light(filled.log, postgres_url)
    async for _ in fleet.instants(filled, scale.times):
        frozen = await fleet.at_work()
        await freeze_in_transaction(fleet, frozen, backends)
        begun, position = asyncio.get_running_loop().time(), await fleet.position()
        await fleet.until(partial(folds_without, frozen, position))
        assert asyncio.get_running_loop().time() - begun < LEASE + TAKEOVER_SECONDS + SLACK
        await fleet.thaw(frozen)
    assert_same(await fleet.folded(filled), filled.quiet)


async def freeze_in_transaction(fleet, worker, backends):
    """Stop it again and again, until it stands in a transaction that has written: then it cannot get out any more."""
    async with asyncio.timeout(30):
        while True:
            worker.send(signal.SIGSTOP)
            await asyncio.sleep(0.05)  # what it had sent is done by now
            if await backends.writing(worker):
                await fleet.tell(f"{worker.name} frozen in its transaction")
                return
            worker.send(signal.SIGCONT)
            await asyncio.sleep(fleet.random.uniform(0, 0.02))


def folds_without(frozen, position, found):
    """Whether others own all of its partitions, and have folded on from there."""
    owners = {int(each.owner.split(":")[1]) for each in found if each.owner}
    return frozen.pid not in owners and sum(each.position for each in found) > position


async def test_told_to_leave_under_load(filled, scale, store_url, light):
    """SIGTERM: what is in hand is committed, the partitions are given back in time, and the next start goes on at once."""
    fleet = await light(filled.log, store_url)
    starts = []
    fleet.most = 1
    async for _ in fleet.instants(filled, scale.times):
        await fleet.at_work()
        (worker,) = fleet.living
        await fleet.leave(worker, within=DRAIN)
        assert worker.events("partitions_released")
        before = await fleet.position()
        begun = asyncio.get_running_loop().time()
        next_one = fleet.join()
        await fleet.reached(before + 1)
        starts.append(asyncio.get_running_loop().time() - begun - next_one.kept_waiting())
    print(f"starts, less what other processes kept them waiting: {', '.join(f'{each:.2f} s' for each in starts)}")
    assert min(starts) < 2
    assert_same(await fleet.folded(filled), filled.quiet)


@pytest.mark.parametrize("seconds", [6, pytest.param(60, marks=[pytest.mark.soak, pytest.mark.timeout(600)])])
@pytest.mark.usefixtures("collector")
async def test_coming_and_going(seconds, make_topic, store_url, light, random):
    """While every second a worker joins or leaves, everything published meanwhile is folded once."""
    topic = make_topic(8)
    fleet = await light(log_of(topic), store_url)
    fleet.most = min(4, 4 * fleet.most - 3)
    async with publishing(topic, random):
        for _ in range(seconds):
            if len(fleet.living) == fleet.most or (fleet.living and random.random() < 0.4):
                await fleet.leave(random.choice(fleet.living))
            else:
                fleet.join()
                await fleet.at_work()
            await asyncio.sleep(1)  # the claim's own second
    assert await fleet.position() > 0, "nobody stayed long enough to fold anything"
    filled = await looked_at(topic)
    assert_same(await fleet.folded(filled), filled.quiet)
