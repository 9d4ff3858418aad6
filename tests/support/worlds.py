"""A log and a store that several ``runfold serve`` share, of every kind, and what has come of them."""

# ruff: noqa: ASYNC110 - a store and a process tell nobody that they got somewhere

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from serving import PATIENCE, Quiet, Server, fill, fold_quietly, held_by, messages, server, settings_of, traffic

from runfold import wiring
from runfold.log.kafka import KafkaSource
from runfold.log.kafka_options import Address, KafkaOptions
from runfold.log.kafka_publish import KafkaSink
from runfold.log.port import Message
from runfold.store.port import PartitionStatus, Store

PARTITIONS = 8


class World:
    """``environment`` is what a server is told to serve it. ``look`` reads the store beside whoever serves it."""

    def __init__(self, folder: Path, *, topic: Address | None = None, store: str = "", **environment: object) -> None:
        self.folder, self._topic, self._stack = folder, topic, AsyncExitStack()
        places = {"log": f"kafka://{topic.servers}/{topic.topic}"} if topic else {}
        self.environment = {**places, **({"store": store} if store else {}), **environment}
        self.settings = settings_of(folder, **self.environment)

    async def make(self) -> None:
        """Make the store, so that it can be looked at."""
        store = wiring.open_store(self.settings, make_folder=True)
        await store.open()
        await store.close()

    async def write(self, written: list[Message]) -> None:
        """Append to the log, which has eight partitions."""
        if self._topic is None:
            await fill(self.folder, written, partitions=PARTITIONS, at_once=1_000)
            return
        sink = KafkaSink(self._topic, KafkaOptions())
        await sink.start()
        for begin in range(0, len(written), 1_000):
            await sink.append(written[begin : begin + 1_000])
        await sink.close()

    async def serve(self, *options: str, program: tuple[str, ...] = Server.program) -> Server:
        """One more ``runfold serve``, which does not outlive the world."""
        made = await self._stack.enter_async_context(server(self.folder, **self.environment))
        made.program = program
        await made.start(*options)
        return made

    async def close(self) -> None:
        await self._stack.aclose()

    async def of_store(self, ask: Callable[[Store], Awaitable[Any]]) -> Any:
        """Ask the store, to read."""
        store = wiring.open_store(self.settings)
        await store.open(write=False)
        try:
            return await ask(store)
        finally:
            await store.close()

    async def look(self) -> list[PartitionStatus]:
        return await self.of_store(lambda store: store.partitions())

    async def held(self) -> Quiet:
        return await self.of_store(held_by)

    async def quiet(self) -> Quiet:
        """What a quiet fold of the same log comes to."""
        source = KafkaSource(self._topic, KafkaOptions()) if self._topic else None
        return await fold_quietly(self.folder, source=source)

    async def until(self, condition: Callable[[Mapping[int, int]], bool]) -> float:
        """Wait until it holds of how many partitions each process has, by its pid; returns when, by the loop's clock."""
        async with asyncio.timeout(PATIENCE):
            while not condition(shares(await self.look())):
                await asyncio.sleep(0.01)
        return asyncio.get_running_loop().time()

    async def shared(self, *servers: Server, partitions: int = PARTITIONS) -> None:
        """Wait until these have all partitions, none of them more than one above another."""
        pids = {each.pid for each in servers}

        def fair(found: Mapping[int, int]) -> bool:
            counts = [found.get(pid, 0) for pid in pids]
            return sum(counts) == partitions and max(counts) - min(counts) <= 1

        await self.until(fair)

    async def folded(self, records: int) -> None:
        """Wait until the store has folded so many records."""
        async with asyncio.timeout(PATIENCE):
            while sum(sum(each.tally.values()) for each in await self.look()) < records:
                await asyncio.sleep(0.02)


def shares(found: list[PartitionStatus]) -> dict[int, int]:
    """How many partitions each process owns, by its pid."""
    counts: dict[int, int] = {}
    for each in found:
        if each.owner is not None:
            pid = int(each.owner.split(":")[1])
            counts[pid] = counts.get(pid, 0) + 1
    return counts


def written(count: int, *, seed: int = 7) -> list[Message]:
    return messages(traffic(count, seed=seed, open_runs=200))
