"""The feed under fire: twenty readers, while the service and the API are killed and started again at random."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import httpx2
import psutil
import pytest
from api_serving import ApiServer
from feed_reading import PATH, aevents, positions
from serving import Server, settings_of

from runfold import wiring
from runfold.api.positions import Positions
from runfold.demo.traffic import interleaved
from runfold.fold.projection import project
from runfold.fold.state import decode_state
from runfold.log.partitioner import key_hash
from runfold.log.publisher import Publisher
from runfold.log.sqlite import SqliteSink
from runfold.store.port import RunFilter, Store

READERS = 20
PARTITIONS = 3


class World:
    """The data folder, and the server that answers now, whose place changes with every start."""

    def __init__(self, folder: Path, store: dict[str, object]) -> None:
        self.folder, self.store = folder, store
        self.api: ApiServer | None = None
        self.fold: Server | None = None
        self.final: dict[int, int] | None = None

    async def start_api(self) -> None:
        self.api = await asyncio.to_thread(ApiServer, self.folder, "--workers", "2", **self.store)

    async def kill_api(self, random: Random) -> None:
        """One of its workers, which is replaced; or all of it."""
        if self.api is None or self.api.ended:
            return
        parent = psutil.Process(self.api.pid)
        workers = [one for one in parent.children() if "spawn_main" in " ".join(one.cmdline())]
        victims = [random.choice(workers)] if workers and random.random() < 0.5 else [*workers, parent]
        for one in victims:
            with suppress(psutil.NoSuchProcess):
                one.kill()

    async def mind_api(self) -> None:
        """Start it again where it has given up, as it does when workers die as soon as they begin: what an init system does."""
        while True:
            await asyncio.sleep(0.3)
            if self.api is not None and self.api.ended:
                await asyncio.to_thread(self.api.stop, signal.SIGKILL)
                await self.start_api()

    async def start_fold(self) -> None:
        self.fold = Server(self.folder, batch_records=100, **self.store)
        await self.fold.start()

    async def kill_fold(self) -> None:
        assert self.fold is not None
        await self.fold.stop(signal.SIGKILL)
        await self.start_fold()


class Reader:
    """Follows from the beginning, coming back wherever it is broken off, until it stands at the end."""

    def __init__(self, world: World, random: Random) -> None:
        self._world, self._random = world, random
        self.last = ""
        self.seen: list[tuple[int, int, dict[str, Any]]] = []

    async def follow(self) -> None:
        while not self._done():
            with suppress(httpx2.HTTPError, TimeoutError):
                async with asyncio.timeout(self._random.uniform(1, 6)):  # some leave by themselves
                    await self._once()
            await asyncio.sleep(0.05)

    async def _once(self) -> None:
        assert self._world.api is not None
        headers = {"last-event-id": self.last} if self.last else {}
        async with (
            httpx2.AsyncClient(timeout=30) as client,
            client.stream("GET", self._world.api.url + PATH, params={"after": "beginning"}, headers=headers) as answer,
        ):
            if answer.status_code != 200:
                return
            async for each in aevents(answer.aiter_lines()):
                self.last = each.id
                if each.name:
                    partition = key_hash(each.run["id"].encode()) % PARTITIONS
                    self.seen.append((partition, positions(each.id)[partition], each.run))
                if self._done():
                    return

    def _done(self) -> bool:
        final, at = self._world.final, positions(self.last)
        return final is not None and all(at.get(partition, 0) >= end for partition, end in final.items())


@asynccontextmanager
async def published(folder: Path) -> AsyncIterator[None]:
    """Publishes as long as the block lasts."""
    events = interleaved(100, Random(5), source=None, start=1_760_000_000_000)
    over = asyncio.Event()

    async def publish() -> None:
        async with Publisher(SqliteSink(folder / "runfold.log.db", partitions=PARTITIONS), source="app") as publisher:
            while not over.is_set():
                await publisher.publish_many(list(islice(events, 20)))
                await asyncio.sleep(0.05)

    publishing = asyncio.create_task(publish())
    try:
        yield
    finally:
        over.set()
        await publishing


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("seconds", [12, pytest.param(120, marks=pytest.mark.faults)])
async def test_readers_end_with_every_last_state(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str, seconds: float
) -> None:
    """Each reader ends with every run's last state, in order per partition, none older after a newer."""
    random = Random(seconds)
    world = World(tmp_path, {} if kind == "sqlite" else {"store": request.getfixturevalue("postgres_url")})
    readers = [Reader(world, Random(number)) for number in range(READERS)]
    try:
        async with published(tmp_path):
            await world.start_fold()
            assert world.fold is not None
            await world.fold.said("batch_committed")
            await world.start_api()
            minding = asyncio.create_task(world.mind_api())
            following = [asyncio.create_task(reader.follow()) for reader in readers]
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                await asyncio.sleep(random.uniform(0.2, 3))  # the instant of death, not a condition
                await (world.kill_api(random) if random.random() < 0.5 else world.kill_fold())
        world.final, states = await _folded(world)
        await asyncio.wait_for(asyncio.gather(*following), 120)
        minding.cancel()
        await asyncio.wait((minding,))
    finally:
        if world.api is not None:
            world.api.stop(signal.SIGKILL)
        if world.fold is not None:
            await world.fold.stop(signal.SIGKILL)
    assert len(states) > 50
    for reader in readers:
        for partition in range(PARTITIONS):
            places = [place for at, place, _ in reader.seen if at == partition]
            assert places == sorted(set(places))
        assert {run["id"]: run for _, _, run in reader.seen} == states


async def _folded(world: World) -> tuple[dict[int, int], dict[str, Any]]:
    """The log's end, and every run as the store has it once it has come there."""
    settings = settings_of(world.folder, **world.store)
    source, store = wiring.open_source(settings), wiring.open_store(settings)
    await source.start()
    ends = {partition: held.end for partition, held in (await source.ranges(range(PARTITIONS))).items()}
    await source.close()
    await store.open(write=False)
    try:
        looks = Positions(store)
        assert await looks.until(lambda found: {each.partition: each.position for each in found} == ends, seconds=60)
        return ends, {run["id"]: run async for run in _runs(store)}
    finally:
        await store.close()


async def _runs(store: Store) -> AsyncIterator[dict[str, Any]]:
    after = None
    while rows := await store.list_runs(RunFilter(after=after, limit=500)):
        for row in rows:
            state = decode_state(row.body)
            after = state.created_at, state.run_id
            yield project(state)
