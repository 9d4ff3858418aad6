"""Rebuilding, verifying, and one run's history: from Kafka, from an archive, from the SQLite log, in the same minutes.

Run it with ``python tests/bench/bench_rebuild.py [--events N] [--rounds N]``. It uses KAFKA_BOOTSTRAP_SERVERS, else starts a
broker of ``deploy/kafka``; its CPU is not counted. Each measurement is a process of its own, and they take turns. *Decode* is
aiokafka's own getmany and a bare decode. *Rebuild* is all that ``runfold replay rebuild`` does but the comparison: folding
into a shadow, and making its late indexes; *with comparison* and *verify* are all that the commands do. *History* is the
command as people call it, its start-up included, and told apart.
Targets: rebuild >= 0.35 x the decode's events a second; from an archive >= 1.3 x from Kafka, by two processes >= 1.5 x by one;
verify no slower than a rebuild with comparison; history < 1 s; the archive <= 35 % of the log's bytes; <= 400 MB a process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Coroutine
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition
from msgspec import structs

from runfold import wiring
from runfold.cli.rebuild import Spreading
from runfold.cli.rebuild_views import build
from runfold.collector import LARGE_BATCHES, quieten_collector
from runfold.config import Settings, load_settings
from runfold.demo.traffic import interleaved
from runfold.log.archive_manifest import Limits
from runfold.log.kafka_options import KafkaOptions, address_of
from runfold.log.kafka_topic import FOREVER, KafkaTopic
from runfold.log.port import Message
from runfold.replay.archiving import archive
from runfold.replay.order import EVERYTHING
from runfold.replay.rebuild import rebuilding
from runfold.replay.verify import verify
from runfold.service.serve import serve
from runfold.store.shadows import LIVE
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


async def rebuild(settings: Settings, *, processes: int = 1, compared: bool = False) -> int:
    source, live, shadows = wiring.open_source(settings), wiring.open_store(settings), wiring.open_shadows(settings)
    await source.start()
    await live.open(write=False)
    spread = None if processes == 1 else Spreading(settings, processes, lambda *_: None)
    async with rebuilding(
        source, live, shadows, settings.rules, order=EVERYTHING, patience=60, spread=spread
    ) as building:
        if compared:
            assert (await build(building, shadows, settings.rules)).identical
        else:
            await building.follow()
            await shadows.complete(building.name)
    await live.close()
    await source.close()
    return building.shadow.done


async def forget_shadows(settings: Settings) -> None:
    shadows = wiring.open_shadows(settings)
    for standing in await shadows.standing():
        if standing.role != LIVE:
            await shadows.drop(standing.name)


async def verified(settings: Settings) -> int:
    source, store = wiring.open_source(settings), wiring.open_store(settings)
    await source.start()
    await store.open(write=False)
    found = await verify(source, store, settings.rules, workspace=settings.data)
    assert found.identical
    await store.close()
    await source.close()
    return found.records


async def archived(settings: Settings, folder: Path) -> float:
    """Archive the log; returns how much of its bytes that takes."""
    settings = structs.replace(settings, archive=f"archive:///{folder}")
    source, writer = wiring.open_source(settings), wiring.open_archive_writer(settings, Limits())
    await source.start()
    with writer.lock():
        segments = [segment async for segment in archive(source, writer)]
    await source.close()
    return sum(each.bytes for each in segments) / sum(each.raw_bytes for each in segments)


WORK: dict[str, Callable[[Settings], Coroutine[Any, Any, int]]] = {
    "decode": decode_all,
    "rebuild": rebuild,
    "rebuild, 2 processes": partial(rebuild, processes=2),
    "rebuild with comparison": partial(rebuild, compared=True),
    "verify": verified,
}


def work(name: str, folder: str, log: str) -> None:
    """One measurement, told on stdout: CPU of all processes, memory of the largest."""
    settings = settings_of(folder, log)
    configure_logging(level="error", style="json")
    quieten_collector(LARGE_BATCHES)
    begun, before = time.perf_counter(), time.process_time()
    count = asyncio.run(WORK[name](settings))
    seconds, cpu = time.perf_counter() - begun, time.process_time() - before
    asyncio.run(forget_shadows(settings))
    others = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = {"count": count, "seconds": seconds, "cpu": cpu + others.ru_utime + others.ru_stime}
    print(json.dumps(told | {"memory": max(peak_of_itself(), others.ru_maxrss // 1024)}))


def peak_of_itself() -> int:
    """Megabytes. Not by getrusage, which on Linux counts what the process that started this one had."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) // 1024


def measured(name: str, folder: str, log: str) -> dict[str, Any]:
    # Not as a script: a process that it starts would first import all of this file, as it does not of the command.
    script = "import sys; from bench_rebuild import work; work(*sys.argv[1:])"
    command = [sys.executable, "-c", script, name, folder, log]
    return json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent).stdout
    )


def history(settings: Settings, *, runs: int) -> None:
    """The command for so many runs, from the oldest to the newest; and the same command saying how it is used."""
    with closing(sqlite3.connect(settings.store.removeprefix("sqlite:///"))) as db:
        (count,) = db.execute("select max(n) from run").fetchone()
        places = [1 + count * nth // runs for nth in range(runs)]
        ids = [db.execute("select run_id from run where n = ?", (place,)).fetchone()[0] for place in places]
    told = ["--log", settings.log, "--data", str(settings.data)]
    found = [_seconds("replay", "history", run_id, *told) for run_id in ids]
    start = median(_seconds("replay", "history", "--help") for _ in ids)
    print(f"history of a run {median(found):.2f} s, at most {max(found):.2f} s (target 1); {start:.2f} s are start-up")


def _seconds(*words: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-m", "runfold", *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def told(name: str, found: list[dict[str, Any]]) -> float:
    """Print the medians; returns the events a second."""
    speed = median(each["count"] / each["seconds"] for each in found)
    cpu = median(each["cpu"] / each["count"] * 1e6 for each in found)
    print(
        f"{name:<44} {speed:>10,.0f} events/s {cpu:>6.2f} us CPU an event {max(each['memory'] for each in found):>5} MB"
    )
    return speed


def bench(servers: str, *, events: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as here, tempfile.TemporaryDirectory() as there:
        kafka, own = f"kafka://{servers}/bench-{uuid.uuid4().hex[:8]}", f"sqlite:///{there}/runfold.log.db"
        configure_logging(level="error", style="json")
        asyncio.run(fill(settings_of(here, kafka), events))
        asyncio.run(fill(settings_of(there, own), events))
        share = asyncio.run(archived(settings_of(here, kafka), Path(here, "archive")))
        compare(here, there, kafka=kafka, archive=f"archive:///{here}/archive", own=own, rounds=rounds)
        print(f"the archive takes {share:.1%} of the log's bytes (target 35 %)")
        history(settings_of(here, kafka), runs=7)


def compare(here: str, there: str, *, kafka: str, archive: str, own: str, rounds: int) -> None:
    """All of them in turn; ``here`` is the data folder of the store of the topic, ``there`` that of the SQLite log."""
    what = {
        ("decode", kafka): here,
        ("rebuild", kafka): here,
        ("rebuild", archive): here,
        ("rebuild, 2 processes", archive): here,
        ("rebuild with comparison", kafka): here,
        ("verify", kafka): here,
        ("rebuild", own): there,
    }
    found: dict[tuple[str, str], list[dict[str, Any]]] = {each: [] for each in what}
    for _ in range(rounds):
        for (name, log), folder in what.items():
            found[name, log].append(measured(name, folder, log))
    print(f"{PARTITIONS} partitions, {OPEN_RUNS:,} runs open at any time; medians of {rounds}")
    speed = {each: told(f"{each[0]}, {each[1].partition(':')[0]}", runs) for each, runs in found.items()}
    floor, one = speed["decode", kafka], speed["rebuild", kafka]
    print(f"rebuild is {one / floor:.2f} x the decode's events/s (target {SPEED})")
    print(f"from the archive {speed['rebuild', archive] / one:.2f} x from Kafka (target 1.3)")
    two = speed["rebuild, 2 processes", archive] / speed["rebuild", archive]
    print(f"two processes {two:.2f} x one, from the archive (target 1.5)")
    ratio = speed["verify", kafka] / speed["rebuild with comparison", kafka]
    print(f"verify is {ratio:.2f} x a rebuild with its comparison (target 1)")
    most = max(each["memory"] for (name, _), runs in found.items() if name != "decode" for each in runs)
    print(f"most memory of a process {most} MB (target {MEMORY})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if servers := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        bench(servers, events=given.events, rounds=given.rounds)
        return
    from kafka_cluster import Cluster

    with Cluster.start() as cluster:
        bench(cluster.bootstrap_servers, events=given.events, rounds=given.rounds)


if __name__ == "__main__":
    main()
