"""Workers that are killed, frozen, woken, added and taken away: the store is that of a quiet fold of the same topic."""

from __future__ import annotations

import asyncio
import signal
from functools import partial
from statistics import median_low

import pytest
from fire_topics import log_of, looked_at, publishing
from under_fire import LEASE, assert_all_folded, assert_same, owner_of

from runfold.store.postgres_leases import TAKEOVER_SECONDS

DRAIN = 10.0
"""The deadline that RUNFOLD_DRAIN sets when nobody sets it."""
START = 2.0
"""Seconds to go on in after a start, from its first instruction to its first commit."""
SLACK = 6.0
"""For looking, for waiting at the lock, and of a machine that has other things to do."""


async def test_killed_at_random_instants(work, store_url, light):
    """Workers that die by SIGKILL at random instants of their work lose no event and fold none twice."""
    fleet = await light(work.log, store_url)
    async for _ in fleet.instants(work):
        await fleet.kill(await fleet.at_work())
    await assert_all_folded(fleet, work)


async def test_zombies(work, store_url, light):
    """Workers stopped for longer than their lease, and then woken, write nothing that a successor has folded."""
    fleet = await light(work.log, store_url)
    async for _ in fleet.instants(work):
        zombie = await fleet.at_work()
        await fleet.freeze(zombie)
        await fleet.outlived(zombie)
        await fleet.thaw(zombie)
    await assert_all_folded(fleet, work)


async def test_processes_of_one_serve(work, store_url, light):
    """Those of `serve --workers` die and freeze by themselves: the others take over, and the dead are started again."""
    fleet = await light(work.log, store_url, options=("--workers", "3"))
    fleet.most = 1
    async for _ in fleet.instants(work):
        hand = await fleet.at_work()
        if fleet.random.random() < 0.5:
            await fleet.kill(hand)
            continue
        await fleet.freeze(hand)
        await fleet.outlived(hand)
        await fleet.thaw(hand)
    await assert_all_folded(fleet, work)


@pytest.mark.usefixtures("collector")
async def test_frozen_inside_its_transaction(make_topic, scale, postgres_url, light, backends, random):
    """A worker that stops in the middle of its transaction, locks in hand, holds its successor up no longer than the bound."""
    topic = make_topic(8)
    fleet = await light(log_of(topic), postgres_url)
    fleet.fill()
    await fleet.all_serve()
    async with publishing(topic, random, records=scale.records):  # or the others were done before the bound is over
        for _ in range(scale.times):
            await fleet.reached(await fleet.position() + random.randrange(1_000))
            frozen = await fleet.at_work()
            held = await freeze_in_transaction(fleet, frozen, backends)
            begun = asyncio.get_running_loop().time()
            await fleet.until(partial(fold_without, frozen, held))
            assert asyncio.get_running_loop().time() - begun < LEASE + TAKEOVER_SECONDS + SLACK
            await fleet.thaw(frozen)
    filled = await looked_at(topic)
    assert_same(await fleet.folded(filled), filled.quiet)


async def freeze_in_transaction(fleet, worker, backends):
    """Stop it again and again, until it stands in a batch's transaction that it cannot get out of; returns what it holds."""
    async with asyncio.timeout(60):
        while True:
            worker.send(signal.SIGSTOP)
            await asyncio.sleep(0.05)  # what it had sent is done by now
            held = {each.partition: each.position for each in await fleet.look() if owner_of(each) == worker.pid}
            if held and await backends.writing(worker):
                await fleet.tell(f"{worker.name} frozen in its transaction")
                return held
            worker.send(signal.SIGCONT)
            await asyncio.sleep(fleet.random.uniform(0, 0.02))


def fold_without(frozen, held, found):
    """Whether others own all that it held, and have folded each of these partitions on from where it stood."""
    return all(
        each.position > held[each.partition] and owner_of(each) != frozen.pid
        for each in found
        if each.partition in held
    )


async def test_told_to_leave_under_load(work, store_url, light):
    """SIGTERM: what is in hand is committed, the partitions are given back in time, and the next start goes on at once.

    That is, half of the starts fold on in less than two seconds, not counting those in which other processes had the CPU.
    """
    fleet = await light(work.log, store_url)
    fleet.most = 1
    waits, starts = [], []
    async for _ in fleet.instants(work):
        await fleet.at_work()
        (worker,) = fleet.living
        await fleet.leave(worker, within=DRAIN)
        assert worker.events("partitions_released")
        await work.add(100)  # it may have left nothing
        before, begun = await fleet.position(), asyncio.get_running_loop().time()
        next_one = fleet.join()
        await fleet.reached(before + 1)
        waits.append(asyncio.get_running_loop().time() - begun)
        starts.append(waits[-1] - next_one.kept_waiting())
    print(f"starts: {', '.join(f'{each:.2f} s' for each in sorted(waits))}")
    print(f"less what other processes kept them waiting: {', '.join(f'{each:.2f} s' for each in sorted(starts))}")
    assert median_low(starts) < START
    await assert_all_folded(fleet, work)


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
