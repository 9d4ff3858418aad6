"""Rebuilding from Kafka beside aiokafka's own getmany with a bare decode, in the same minutes, and from the SQLite log.

Run it with ``python tests/bench/bench_rebuild.py [--events N] [--rounds N]``. It uses KAFKA_BOOTSTRAP_SERVERS, else starts a
broker of ``deploy/kafka``; its CPU is not counted. Each measurement is a process of its own, and they take turns. *Rebuild* is
all that ``runfold replay rebuild`` does but the comparison: folding into a shadow, and making its late indexes.
Targets: >= 0.35 x the decode's events a second, in <= 400 MB.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from itertools import islice
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from runfold import wiring
from runfold.collector import LARGE_BATCHES, quieten_collector
from runfold.config import Settings, load_settings
from runfold.demo.traffic import interleaved
from runfold.log.kafka_options import KafkaOptions, address_of
from runfold.log.kafka_topic import FOREVER, KafkaTopic
from runfold.log.port import Message
from runfold.replay.order import EVERYTHING
from runfold.replay.rebuild import rebuilding
from runfold.service.serve import serve
from runfold.telemetry import configure_logging
from runfold_schemas import encode

sys.path.insert(0, str(Path(__file__).parents[2] / "deploy" / "kafka"))

PARTITIONS, OPEN_RUNS = 8, 5_000
SPEED, MEMORY = 0.35, 400


def settings_of(folder: str, log: str) -> Settings:
    return load_settings({"data": folder, "log": log, "partitions": str(PARTITIONS)}, environment={})


async def fill(settings: Settings, count: int) -> None:
    """Write the log, and serve it once: the store that a rebuild is beside."""
    if settings.log.startswith("kafka"):
        async with KafkaTopic(address_of(settings.log), KafkaOptions()) as topic:
            await topic.create(partitions=PARTITIONS, replicas=1, retention_ms=FOREVER)
    sink = wiring.open_sink(settings)
    await sink.start()
    events = interleaved(OPEN_RUNS, Random(7), source="bench")
    for _ in range(0, count, 5_000):
        await sink.append([Message(event.run_id.encode(), encode(event)) for event in islice(events, 5_000)])
    await sink.close()
    await serve(
        settings, wiring.open_source(settings), wiring.open_store(settings), until_end=True, stop=asyncio.Event()
    )


async def decode_all(settings: Settings) -> int:
    """The floor: every value decoded without a type, and forgotten."""
    address, decode, seen = address_of(settings.log), msgspec.msgpack.Decoder().decode, 0
    consumer = AIOKafkaConsumer(
        bootstrap_servers=address.servers,
        auto_offset_reset="none",
        max_partition_fetch_bytes=4 << 20,
        fetch_max_bytes=50 << 20,
    )
    await consumer.start()
    places = [TopicPartition(address.topic, which) for which in range(PARTITIONS)]
    consumer.assign(places)
    total = sum((await consumer.end_offsets(places)).values())
    for place in places:
        consumer.seek(place, 0)
    while seen < total:
        for records in (await consumer.getmany(timeout_ms=500, max_records=20_000)).values():
            seen += len(records)
            for record in records:
                decode(record.value)
    await consumer.stop()
    return seen


async def rebuild(settings: Settings) -> int:
    source, live, shadows = wiring.open_source(settings), wiring.open_store(settings), wiring.open_shadows(settings)
    await source.start()
    await live.open(write=False)
    async with rebuilding(source, live, shadows, settings.rules, order=EVERYTHING, patience=60) as building:
        await building.follow()
        await shadows.complete(building.name)
    await shadows.drop(building.name)
    await live.close()
    await source.close()
    return building.shadow.done


def work(name: str, folder: str, log: str) -> None:
    """One measurement, told on stdout."""
    settings = settings_of(folder, log)
    configure_logging(level="error", style="json")
    quieten_collector(LARGE_BATCHES)
    begun, before = time.perf_counter(), time.process_time()
    count = asyncio.run({"decode": decode_all, "rebuild": rebuild}[name](settings))
    seconds, cpu = time.perf_counter() - begun, time.process_time() - before
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"count": count, "seconds": seconds, "cpu": cpu, "memory": memory}))


def measured(name: str, folder: str, log: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--work", name, folder, log]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def told(name: str, found: list[dict[str, Any]]) -> float:
    """Print the medians; returns the events a second."""
    speed = median(each["count"] / each["seconds"] for each in found)
    cpu = median(each["cpu"] / each["count"] * 1e6 for each in found)
    print(
        f"{name:<28} {speed:>10,.0f} events/s {cpu:>6.2f} us CPU an event {max(each['memory'] for each in found):>5} MB"
    )
    return speed


def bench(servers: str, *, events: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as here, tempfile.TemporaryDirectory() as there:
        kafka, own = f"kafka://{servers}/bench-{uuid.uuid4().hex[:8]}", f"sqlite:///{there}/runfold.log.db"
        configure_logging(level="error", style="json")
        asyncio.run(fill(settings_of(here, kafka), events))
        asyncio.run(fill(settings_of(there, own), events))
        found: dict[str, list[dict[str, Any]]] = {"decode": [], "kafka": [], "sqlite": []}
        for _ in range(rounds):
            found["decode"].append(measured("decode", here, kafka))
            found["kafka"].append(measured("rebuild", here, kafka))
            found["sqlite"].append(measured("rebuild", there, own))
    print(f"{events:,} events, {PARTITIONS} partitions, {OPEN_RUNS:,} runs open at any time; medians of {rounds}")
    floor = told("aiokafka getmany and decode", found["decode"])
    speed = told("rebuild from Kafka", found["kafka"])
    told("rebuild from the SQLite log", found["sqlite"])
    cpu = [median(each["cpu"] / each["count"] for each in found[name]) for name in ("decode", "kafka")]
    print(f"rebuild is {speed / floor:.2f} x the decode's events/s (target {SPEED}), {cpu[0] / cpu[1]:.2f} x by CPU")
    print(f"most memory {max(each['memory'] for each in found['kafka'] + found['sqlite'])} MB (target {MEMORY})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", nargs=3)
    given = parser.parse_args()
    if given.work:
        work(*given.work)
        return
    if servers := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        bench(servers, events=given.events, rounds=given.rounds)
        return
    from kafka_cluster import Cluster

    with Cluster.start() as cluster:
        bench(cluster.bootstrap_servers, events=given.events, rounds=given.rounds)


if __name__ == "__main__":
    main()
