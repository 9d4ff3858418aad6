"""A worker that is frozen inside its transaction: its successor gets there within a bound, and woken it harms nobody."""

# ruff: noqa: ASYNC110 - a stopped process tells nobody

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import psutil
import pytest
from worlds import PARTITIONS, World, written

from runfold.store.postgres_leases import TAKEOVER_SECONDS

pytestmark = pytest.mark.usefixtures("collector")

LEASE = 2.0
FREEZING = (str(Path(__file__).parents[1] / "support" / "freezing_serve.py"),)


async def test_a_worker_frozen_in_its_copy_is_succeeded_within_the_bound(tmp_path: Path, postgres_url: str) -> None:
    """In lease and bound the other has all partitions and folds on; woken, the frozen one writes nothing and rejoins."""
    world = World(tmp_path, store=postgres_url, batch_records=200, batch_linger=0, lease=LEASE)
    await world.write(written(2_000))
    await world.make()
    frozen = await world.serve(program=FREEZING)
    async with asyncio.timeout(30):
        while psutil.Process(frozen.pid).status() != psutil.STATUS_STOPPED:
            await asyncio.sleep(0.01)
    begun = asyncio.get_running_loop().time()
    successor = await world.serve()
    taken = await world.until(lambda found: found == {successor.pid: PARTITIONS})
    assert taken - begun < LEASE + TAKEOVER_SECONDS + 1
    await world.folded(2_000)
    frozen.send(signal.SIGCONT)
    await frozen.said("batch_dropped")
    await world.shared(frozen, successor)
    await world.write(written(2_000, seed=8))
    await world.folded(4_000)
    assert await frozen.stop() == await successor.stop() == 0
    assert await world.held() == await world.quiet()
    await world.close()
