"""From published to readable at a steady rate: three processes, as in life. Milliseconds, beside what the log alone takes.

Run it with ``python tests/bench/bench_latency.py [--rate N] [--seconds N] [--at-once N] [--kafka] [--setting X=Y]``. One
process publishes events at the rate, so many by a call, into the SQLite log or a new topic of KAFKA_BOOTSTRAP_SERVERS;
``runfold serve`` folds in a second; this one looks with a read-only connection, a few thousand times a second, how far
the store stands. An event's time runs from the call of ``publish`` until a reader has seen its position, which is
committed with its run. The baseline is the same event's time until ``publish`` has returned: it is then durable in the
log. Targets at 1,000 events/s: p50 <= 10 ms, p99 <= 50 ms; with Kafka at 10,000 events/s: p50 <= 5 ms, p99 <= 25 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from itertools import islice
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from serving import server

from runfold import wiring
from runfold.config import load_settings
from runfold.demo.traffic import interleaved
from runfold.log.kafka_options import Address, KafkaOptions
from runfold.log.kafka_topic import FOREVER, KafkaTopic
from runfold.log.publisher import Publisher
from runfold.log.sqlite import SqliteSink
from runfold_schemas import Event

LOOK_EVERY = 0.0003
LATER = 2.0
"""Seconds after its last event that the slowest one is waited for."""

Published = list[tuple[int, int, float, float]]
"""(partition, offset, called, returned) of every event, in seconds of the monotonic clock, which all processes share."""


async def publish(log: str, rate: int, seconds: float, at_once: int) -> Published:
    """Publish at a steady rate, whether or not earlier calls have returned."""
    done: Published = []

    async def some(publisher: Publisher, events: list[Event]) -> None:
        called = time.monotonic()
        places = await publisher.publish_many(events)
        returned = time.monotonic()
        done.extend((place.partition, place.offset, called, returned) for place in places)

    events = interleaved(500, Random(7), source=None)
    made = [list(islice(events, at_once)) for _ in range(int(rate * seconds) // at_once)]
    begun = time.monotonic()
    sink = wiring.open_sink(load_settings({"log": log}, environment={}))
    async with Publisher(sink, source="bench") as publisher, asyncio.TaskGroup() as group:
        for number, part in enumerate(made):
            if (early := begun + number * at_once / rate - time.monotonic()) > 0:
                await asyncio.sleep(early)
            group.create_task(some(publisher, part))
    return done


def look(store: Path, until: subprocess.Popen[bytes]) -> list[tuple[float, dict[int, int]]]:
    """(when, position by partition) at each commit that a reader saw, until a while after the publisher has left."""
    reader = sqlite3.connect(f"file:{store}?mode=ro", uri=True, isolation_level=None)
    seen: list[tuple[float, dict[int, int]]] = []
    version, end = None, None
    while end is None or time.monotonic() < end:
        if end is None and until.poll() is not None:
            end = time.monotonic() + LATER
        (now,) = reader.execute("pragma data_version").fetchone()
        if now != version:
            positions = dict(reader.execute("select partition, next from position"))
            seen.append((time.monotonic(), positions))
            version = now
        time.sleep(LOOK_EVERY)
    reader.close()
    return seen


def readable(published: Published, seen: list[tuple[float, dict[int, int]]]) -> list[float]:
    """Seconds from the call to the first look that showed the event's position passed; sorted."""
    waiting = sorted(published, key=lambda event: event[:2])
    taken: list[float] = []
    for when, positions in seen:
        left = []
        for event in waiting:
            partition, offset, called, _ = event
            if positions.get(partition, 0) > offset:
                taken.append(when - called)
            else:
                left.append(event)
        waiting = left
    if waiting:
        print(f"{len(waiting)} events were never seen")
    return sorted(taken)


def say(what: str, seconds: list[float], beside: list[float] | None = None) -> None:
    p50, p99 = (seconds[int(len(seconds) * share)] * 1000 for share in (0.5, 0.99))
    ratio = f"   p50 {p50 / (beside[len(beside) // 2] * 1000):.2f} x durable" if beside else ""
    print(f"{what:24} p50 {p50:7.2f} ms   p99 {p99:7.2f} ms   most {seconds[-1] * 1000:7.2f} ms{ratio}")


def publish_and_look(
    folder: Path, log: str, given: argparse.Namespace
) -> tuple[Published, list[tuple[float, dict[int, int]]]]:
    """Let another process publish, and look on meanwhile."""
    how = [f"--rate={given.rate}", f"--seconds={given.seconds}", f"--at-once={given.at_once}"]
    command = [sys.executable, __file__, "--publish", log, *how]
    with tempfile.TemporaryFile("w+") as answer, subprocess.Popen(command, stdout=answer) as publisher:
        seen = look(folder / "runfold.db", publisher)
        answer.seek(0)
        return [tuple(event) for event in json.load(answer)], seen


async def make_log(folder: Path, *, kafka: bool) -> str:
    """An empty log, by its URL."""
    if not kafka:
        sink = SqliteSink(folder / "runfold.log.db")
        await sink.start()
        await sink.close()
        return f"sqlite:///{folder / 'runfold.log.db'}"
    address = Address(os.environ["KAFKA_BOOTSTRAP_SERVERS"], f"latency-{uuid.uuid4().hex[:8]}")
    async with KafkaTopic(address, KafkaOptions()) as topic:
        await topic.create(partitions=8, replicas=1, retention_ms=FOREVER)
    return f"kafka://{address.servers}/{address.topic}"


async def measure(given: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = await make_log(folder, kafka=given.kafka)
        async with server(folder, log=log, **dict(each.split("=", 1) for each in given.setting)) as service:
            await service.start()
            await service.said("partitions_taken")
            # Its logs are read all the while, or it would block on a full pipe.
            ending = asyncio.create_task(service.ended(within=given.seconds + 60))
            published, seen = await asyncio.to_thread(publish_and_look, folder, log, given)
            service.send(signal.SIGTERM)
            await ending
    lines = service.events("batch_committed")
    durable = sorted(returned - called for _, _, called, returned in published)
    mean = sum(line["records"] for line in lines) / len(lines)
    print(f"{len(published):,} events, {given.rate:,}/s for {given.seconds:g} s, {mean:.1f} a batch")
    say("published -> durable", durable)
    say("published -> readable", readable(published, seen), durable)
    for stage in ("fetch", "load", "fold", "commit"):
        say(f"of a batch: {stage}", sorted(line[f"{stage}_ms"] / 1000 for line in lines))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rate", type=int, default=1_000)
    options.add_argument("--seconds", type=float, default=10)
    options.add_argument("--at-once", type=int, default=1)
    options.add_argument("--kafka", action="store_true")
    options.add_argument("--setting", action="append", default=[], help="of the service, such as batch_linger=0.001")
    options.add_argument("--publish")
    given = options.parse_args()
    if given.publish:
        print(json.dumps(asyncio.run(publish(given.publish, given.rate, given.seconds, given.at_once))))
    else:
        asyncio.run(measure(given))


if __name__ == "__main__":
    main()
