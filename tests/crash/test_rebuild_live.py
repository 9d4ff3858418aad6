"""Rebuilt and switched while events arrive and the serving process is killed: nothing is lost, and no read goes back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from rebuilds import commanded, store_of
from serving import fold_quietly, held_by, server, settings_of

from runfold import wiring
from runfold.config import Settings
from runfold.demo.traffic import interleaved
from runfold.fold.state import decode_state
from runfold.log.publisher import Publisher
from runfold.log.sqlite import SqliteSink
from runfold.store.port import RunFilter
from runfold.wiring import SHADOWS

SMALL = {"batch_records": 2_000, "lease": 2}
SWITCH = ("replay", "rebuild", "--switch", "--yes", "--json")

pytestmark = pytest.mark.usefixtures("collector")


@pytest.fixture(params=sorted(SHADOWS))
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    return settings_of(tmp_path, store=store_of(tmp_path, url))


@asynccontextmanager
async def published(settings: Settings, *, rate: int) -> AsyncIterator[None]:
    """Publishes so many events a second for as long as the block lasts."""
    events, over = interleaved(300, Random(8), source=None, start=1_760_000_000_000), asyncio.Event()

    async def publish() -> None:
        loop = asyncio.get_running_loop()
        async with Publisher(
            SqliteSink(settings.data / "runfold.log.db", partitions=3), source="platform"
        ) as publisher:
            due = loop.time()
            while not over.is_set():
                await publisher.publish_many(list(islice(events, rate // 20)))
                due += 0.05
                await asyncio.sleep(max(0, due - loop.time()))

    publishing = asyncio.create_task(publish())
    try:
        yield
    finally:
        over.set()
        await publishing


class Reader:
    """Reads on and on from a store that was opened before anything happened. ``complaints`` is what went back in time."""

    def __init__(self, settings: Settings) -> None:
        self._store = wiring.open_store(settings)
        self._over = asyncio.Event()
        self._positions: dict[int, int] = {}
        self._counts: dict[str, int] = {}
        self._offsets: dict[str, int] = {}
        self.complaints: list[str] = []
        self.reads = 0

    async def read(self) -> None:
        """Until told to end. Raises what a read raises: none may fail."""
        await self._store.open(write=False)
        try:
            while not self._over.is_set():
                await self._look()
                self.reads += 1
                await asyncio.sleep(0.005)
        finally:
            await self._store.close()

    def end(self) -> None:
        self._over.set()

    async def _look(self) -> None:
        for status in await self._store.partitions():
            self._risen(self._positions, status.partition, status.position)
        ended = await self._store.count_runs()
        self._risen(self._counts, "completed", ended["completed"])
        for run in [*await self._store.list_runs(RunFilter(limit=5)), *await self._known()]:
            self._risen(self._offsets, run.run_id, decode_state(run.body).last_offset)

    async def _known(self) -> list:
        return [row for run_id in list(self._offsets)[::97] for row in await self._store.find_run(run_id)]

    def _risen(self, before: dict, key: object, now: int) -> None:
        if now < before.get(key, 0):
            self.complaints.append(f"{key}: {before[key]}, then {now}")
        before[key] = now


@pytest.mark.parametrize("rate", [1_000, pytest.param(5_000, marks=(pytest.mark.faults, pytest.mark.timeout(3_600)))])
async def test_switched_under_load(settings: Settings, rate: int) -> None:
    """There, back, and there again while events arrive and the server is killed: reads never fail and never go back."""
    environment = SMALL | {"store": settings.store}
    reader = Reader(settings)
    async with published(settings, rate=rate):
        async with server(settings.data, **environment) as service:
            await service.start()
            await service.said("batch_committed")
            reading = asyncio.create_task(reader.read())
            code, found, told = await commanded(settings, *SWITCH)
            assert (code, found["identical"]) == (0, True), told
            await service.said("batch_committed")
            switching = asyncio.create_task(commanded(settings, "replay", "rebuild", "--back", "--yes"))
            await asyncio.sleep(0.5)  # somewhere in it
            await service.stop(signal.SIGKILL)
        code, _, told = await switching
        assert code == 0, told
        async with server(settings.data, **environment) as service:
            await service.start()
            await service.said("batch_committed")
            code, found, told = await commanded(settings, *SWITCH)
            assert (code, found["identical"]) == (0, True), told
            await service.said("batch_committed")
            assert await service.stop(signal.SIGTERM) == 0, service.lines[-5:]
    async with server(settings.data, **environment) as service:
        await service.start("--until-end")
        assert await service.ended() == 0
    reader.end()
    await reading
    assert (reader.complaints, reader.reads > 50) == ([], True)
    store = wiring.open_store(settings)
    await store.open(write=False)
    there = await held_by(store)
    await store.close()
    assert there == await fold_quietly(settings.data)
