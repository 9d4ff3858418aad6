"""``runfold serve`` catching up with a long Kafka topic: events a second, CPU an event and resident memory, a worker.

Run it with ``python tests/bench/bench_catch_up.py [--topic NAME] [--events N] [--stores sqlite,postgres] [--workers 1,2]
[--runs N]``. It uses KAFKA_BOOTSTRAP_SERVERS, else starts a broker of ``deploy/kafka``; without ``--topic`` it fills one.
Counted from the taking of the first partitions to the commit of the last record, CPU of all our processes, without the
broker's and the database's. With ``--runs`` it is done a second time, into a store that has so many runs of others already.
Targets: one worker <= 250 MB, and flat; the figures of others on the same topic stand in docs/performance.md.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice, product
from pathlib import Path
from random import Random
from typing import NamedTuple

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
sys.path.insert(0, str(Path(__file__).parents[2] / "deploy" / "kafka"))

from bench_postgres import SETTINGS
from bench_store import Traffic
from postgres_server import own_server
from serving import Server, server

from runfold import wiring
from runfold.config import load_settings
from runfold.demo.traffic import interleaved
from runfold.fold.changes import PositionChange
from runfold.fold.rules import COMPATIBLE, FOLD_VERSION
from runfold.log.kafka import KafkaSource
from runfold.log.kafka_options import Address, KafkaOptions
from runfold.log.kafka_publish import KafkaSink
from runfold.log.kafka_topic import FOREVER, KafkaTopic
from runfold.log.port import Message
from runfold_schemas import encode

PARTITIONS = 8
OPEN_RUNS = 5_000
AT_ONCE = 5_000
LOOKS = 20


class Look(NamedTuple):
    """What the service had used when it was looked at: CPU seconds of all its processes, MB of its largest one."""

    at: float
    cpu: float
    memory: int


def look(pid: int) -> Look:
    parent = psutil.Process(pid)
    family = [parent, *parent.children(recursive=True)]
    cpu = sum(sum(process.cpu_times()[:2]) for process in family)
    return Look(time.perf_counter(), cpu, max(process.memory_info().rss for process in family) >> 20)


async def fill(address: Address, count: int) -> None:
    """Make the topic, 5,000 runs open at any time."""
    options = KafkaOptions()
    async with KafkaTopic(address, options) as topic:
        await topic.create(partitions=PARTITIONS, replicas=1, retention_ms=FOREVER)
    sink, events, left = KafkaSink(address, options), interleaved(OPEN_RUNS, Random(7)), count
    await sink.start()
    while left > 0:
        some = [Message(event.run_id.encode(), encode(event)) for event in islice(events, min(left, AT_ONCE))]
        left -= len(await sink.append(some))
    await sink.close()


async def length_of(address: Address) -> int:
    source = KafkaSource(address, KafkaOptions())
    await source.start()
    ranges = await source.ranges(range(await source.partitions()))
    await source.close()
    return sum(held.end - held.begin for held in ranges.values())


async def committed(service: Server) -> AsyncIterator[int]:
    """How many records each batch had."""
    while True:
        yield (await service.said("batch_committed"))["records"]
        service.lines.clear()


async def add_runs(log: str, url: str, runs: int) -> None:
    """Make the store, with so many runs in it that the log knows nothing of."""
    settings = load_settings({"log": log, "store": url}, environment={})
    source, store, traffic = wiring.open_source(settings), wiring.open_store(settings, make_folder=True), Traffic()
    await source.start()
    await store.open()
    found, partitions = await source.identity(), await source.partitions()
    rules = {"fold_version": FOLD_VERSION, "compatible": COMPATIBLE, "settings_hash": settings.rules.settings_hash}
    await store.bind(cluster_id=found.cluster_id, topic=found.topic, partitions=partitions, **rules)
    leases = await store.claim("bench", dict.fromkeys(range(partitions), 0), lease=60)
    stay = dict.fromkeys(leases, PositionChange(0, 0, -1, b""))
    while traffic.made < runs:
        changes = traffic.batch({}, number=0, new=20_000)
        changes.positions = stay
        traffic.learn(await store.apply(changes, leases))
    await store.leave("bench")
    await store.close()
    await source.close()


async def catch_up(address: Address, store: str, *, workers: int, count: int, runs: int = 0) -> list[Look]:
    """Looks at the service: the first when it begins to read, the last when it has committed everything."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url = store or f"sqlite:///{folder / 'runfold.db'}"
        log = f"kafka://{address.servers}/{address.topic}"
        if runs:
            await add_runs(log, url, runs)
        async with server(folder, log=log, store=url) as service:
            await service.start("--workers", str(workers))
            await service.said("partitions_taken")
            looks, done = [look(service.pid)], 0
            async for records in committed(service):
                done += records
                if done >= len(looks) * count // LOOKS:
                    looks.append(look(service.pid))
                if done >= count:
                    break
            await service.stop()
    return looks


def tell(what: str, looks: list[Look], count: int) -> None:
    seconds, cpu = looks[-1].at - looks[0].at, looks[-1].cpu - looks[0].cpu
    memory = [each.memory for each in looks[1:]]
    half = len(memory) // 2
    print(
        f"{what:24} {count / seconds:>9,.0f} events/s {cpu / count * 1e6:>6.2f} us CPU an event; MB of memory:"
        f" {looks[0].memory} at first, at most {max(memory[:half])} in the first half, {max(memory[half:])} in the second",
        flush=True,
    )


@contextmanager
def postgres(wanted: bool) -> Iterator[str]:
    with own_server(settings=SETTINGS) if wanted else nullcontext() as running:
        yield "" if running is None else running.url


async def bench(servers: str, given: argparse.Namespace) -> None:
    address = Address(servers, given.topic or f"catch-up-{os.getpid()}")
    if not given.topic:
        await fill(address, given.events)
    count = await length_of(address)
    print(f"{count:,} events", flush=True)
    for kind in given.stores.split(","):
        for workers, runs in product(map(int, given.workers.split(",")), sorted({0, given.runs})):
            with postgres(kind == "postgres") as url:
                looks = await catch_up(address, url, workers=workers, count=count, runs=runs)
            tell(f"{kind}, {workers} worker(s)" + (f", {runs:,} runs" if runs else ""), looks, count)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--topic")
    options.add_argument("--events", type=int, default=2_000_000)
    options.add_argument("--stores", default="sqlite,postgres")
    options.add_argument("--workers", default="1")
    options.add_argument("--runs", type=int, default=0)
    given = options.parse_args()
    if servers := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        asyncio.run(bench(servers, given))
        return
    from kafka_cluster import Cluster

    with Cluster.start() as cluster:
        asyncio.run(bench(cluster.bootstrap_servers, given))


if __name__ == "__main__":
    main()
