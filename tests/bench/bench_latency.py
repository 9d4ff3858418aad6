"""From published to readable at a steady rate: three processes, as in life. Milliseconds, beside what the log alone takes.

Run it with ``python tests/bench/bench_latency.py [--rate N] [--seconds N]``. One process publishes single events at the
rate, each by a call of its own; ``runfold serve`` folds in a second; this one looks with a read-only connection, a few
thousand times a second, how far the store stands. An event's time runs from the call of ``publish`` until a reader has seen
its position, which is committed with its run. The baseline is the same event's time until ``publish`` has returned: it is
then durable in the log. Targets at 1,000 events/s: p50 <= 10 ms, p99 <= 50 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from serving import server

from runfold.demo.traffic import interleaved
from runfold.log.publisher import Publisher
from runfold.log.sqlite import SqliteSink
from runfold_schemas import Event

LOOK_EVERY = 0.0003
LATER = 2.0
"""Seconds after its last event that the slowest one is waited for."""

Published = list[tuple[int, int, float, float]]
"""(partition, offset, called, returned) of every event, in seconds of the monotonic clock, which all processes share."""


async def publish(log: Path, rate: int, seconds: float) -> Published:
    """Publish at a steady rate, whether or not earlier calls have returned."""
    done: Published = []

    async def one(publisher: Publisher, event: Event) -> None:
        called = time.monotonic()
        place = await publisher.publish(event)
        done.append((place.partition, place.offset, called, time.monotonic()))

    events = list(islice(interleaved(500, Random(7), source=None), int(rate * seconds)))
    begun = time.monotonic()
    async with Publisher(SqliteSink(log), source="bench") as publisher, asyncio.TaskGroup() as group:
        for number, event in enumerate(events):
            if (early := begun + number / rate - time.monotonic()) > 0:
                await asyncio.sleep(early)
            group.create_task(one(publisher, event))
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


def publish_and_look(folder: Path, rate: int, seconds: float) -> tuple[Published, list[tuple[float, dict[int, int]]]]:
    """Let another process publish, and look on meanwhile."""
    log = str(folder / "runfold.log.db")
    command = [sys.executable, __file__, "--publish", log, "--rate", str(rate), "--seconds", str(seconds)]
    with tempfile.TemporaryFile("w+") as answer, subprocess.Popen(command, stdout=answer) as publisher:
        seen = look(folder / "runfold.db", publisher)
        answer.seek(0)
        return [tuple(event) for event in json.load(answer)], seen


async def measure(rate: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sink = SqliteSink(folder / "runfold.log.db")
        await sink.start()
        await sink.close()
        async with server(folder) as service:
            await service.start()
            await service.said("partitions_taken")
            # Its logs are read all the while, or it would block on a full pipe.
            ending = asyncio.create_task(service.ended(within=seconds + 60))
            published, seen = await asyncio.to_thread(publish_and_look, folder, rate, seconds)
            service.send(signal.SIGTERM)
            await ending
    lines = service.events("batch_committed")
    durable = sorted(returned - called for _, _, called, returned in published)
    mean = sum(line["records"] for line in lines) / len(lines)
    print(f"{len(published):,} events, {rate:,}/s for {seconds:g} s, {mean:.1f} a batch")
    say("published -> durable", durable)
    say("published -> readable", readable(published, seen), durable)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rate", type=int, default=1_000)
    options.add_argument("--seconds", type=float, default=10)
    options.add_argument("--publish", type=Path)
    given = options.parse_args()
    if given.publish:
        print(json.dumps(asyncio.run(publish(given.publish, given.rate, given.seconds))))
    else:
        asyncio.run(measure(given.rate, given.seconds))


if __name__ == "__main__":
    main()
