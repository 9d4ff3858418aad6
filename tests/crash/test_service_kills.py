"""``runfold serve``, a real process, killed and stopped at random instants while a publisher goes on."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from serving import fold_quietly, server, stored

from runfold.demo.traffic import interleaved
from runfold.log.publisher import Publisher
from runfold.log.sqlite import SqliteSink

SMALL = {"batch_records": 200, "batch_linger": 0}
"""Small batches: many transactions, so that a kill seldom falls between them."""

pytestmark = pytest.mark.usefixtures("collector")


@asynccontextmanager
async def published(folder: Path, *, seed: int) -> AsyncIterator[None]:
    """Publishes events as long as the block lasts, faster than they are folded between two kills."""
    events = interleaved(300, Random(seed), source=None, start=1_760_000_000_000)
    over = asyncio.Event()

    async def publish() -> None:
        async with Publisher(SqliteSink(folder / "runfold.log.db", partitions=3), source="platform") as publisher:
            while not over.is_set():
                await publisher.publish_many(list(islice(events, 100)))
                await asyncio.sleep(0.01)

    publishing = asyncio.create_task(publish())
    try:
        yield
    finally:
        over.set()
        await publishing


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_killed_at_random(tmp_path: Path, seed: int) -> None:
    """After ten kills -9 at random instants under load, the store is that of a quiet fold of the same log."""
    random = Random(seed)
    async with published(tmp_path, seed=seed):
        for _ in range(10):
            async with server(tmp_path, **SMALL) as service:
                await service.start()
                await service.said("partitions_taken")
                await asyncio.sleep(random.uniform(0, 0.25))  # the instant of death, not a condition
                assert await service.stop(signal.SIGKILL) == -signal.SIGKILL
    async with server(tmp_path, **SMALL) as service:
        await service.start("--until-end")
        assert await service.ended() == 0
    assert await stored(tmp_path) == await fold_quietly(tmp_path)


async def test_killed_while_starting(tmp_path: Path) -> None:
    """A kill -9 while the store is being made leaves nothing that hinders the next start."""
    random = Random(4)
    async with published(tmp_path, seed=4):
        for _ in range(5):
            async with server(tmp_path) as service:
                await service.start()
                await asyncio.sleep(random.uniform(0.1, 0.4))  # the instant of death, not a condition
                await service.stop(signal.SIGKILL)
    async with server(tmp_path) as service:
        await service.start("--until-end")
        assert await service.ended() == 0
    assert await stored(tmp_path) == await fold_quietly(tmp_path)


async def test_stopped_under_load(tmp_path: Path) -> None:
    """SIGTERM under load drains what is in hand, gives the partitions back and ends with 0; nothing is folded twice."""
    async with published(tmp_path, seed=5):
        for _ in range(3):
            async with server(tmp_path, **SMALL) as service:
                await service.start()
                for _ in range(3):
                    await service.said("batch_committed")
                begun = asyncio.get_running_loop().time()
                assert await service.stop(signal.SIGTERM) == 0
                assert asyncio.get_running_loop().time() - begun < 5
                assert service.lines[-1]["event"] == "partitions_released"
    async with server(tmp_path, **SMALL) as service:
        await service.start("--until-end")
        assert await service.ended() == 0
    assert await stored(tmp_path) == await fold_quietly(tmp_path)


async def test_a_sleeper_that_wakes(tmp_path: Path) -> None:
    """A process that was stopped for longer than its lease goes on by itself, and nothing shows of it."""
    async with published(tmp_path, seed=6), server(tmp_path, **SMALL, lease=1) as service:
        await service.start()
        await service.said("batch_committed")
        service.send(signal.SIGSTOP)
        await asyncio.sleep(1.5)  # longer than its lease: time itself is what is tested
        service.send(signal.SIGCONT)
        await service.said("batch_committed")
        assert await service.stop(signal.SIGTERM) == 0
    async with server(tmp_path, **SMALL) as service:
        await service.start("--until-end")
        assert await service.ended() == 0
    assert await stored(tmp_path) == await fold_quietly(tmp_path)
