"""Events published into the SQLite log per second, beside bare SQLite inserts of the same bytes; and the way to a reader.

Run it with ``python tests/bench/bench_publish.py [--events N]``. The events have the shape and the shares of a platform of
agents: 5,000 runs open at any time, some five events each, two fifths of them with tool calls.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import heapq
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

from runfold.log.publisher import Publisher
from runfold.log.sqlite import SqliteSink, SqliteSource
from runfold_schemas.events import (
    Event,
    RunCompleted,
    RunCreated,
    RunFailed,
    RunInProgress,
    RunQueued,
    RunRequiresAction,
    TokenDetails,
    Usage,
)

PARTITIONS = 4
BATCH = 5_000
OPEN_RUNS = 5_000
LATENCIES = 500
TOOLS = [{"type": "function", "function": {"name": "find_order", "parameters": {"type": "object", "properties": {}}}}]


def lifecycle(number: int, rng: random.Random) -> Iterator[Event]:
    """One run's events, in order, as an application would make them."""
    ids = {"run_id": f"run_{rng.getrandbits(96):024x}", "thread_id": f"thread_{rng.getrandbits(96):024x}"}
    metadata = {"project_id": f"proj_{number % 20}", "user_id": f"user_{number % 1000}"}
    text = "Answer briefly, and name the order you speak of."
    assistant, model = f"asst_{number % 50}", rng.choice(["gpt-4o", "gpt-4.1", "o3"])
    yield RunCreated(**ids, assistant_id=assistant, model=model, instructions=text, tools=TOOLS, metadata=metadata)
    yield RunInProgress(**ids)
    for _ in range(rng.randrange(1, 3) if rng.random() < 0.4 else 0):
        call = {"id": f"call_{rng.getrandbits(48):012x}", "type": "function", "function": {"name": "find_order"}}
        action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": [call]}}
        yield RunRequiresAction(**ids, required_action=action)
        yield RunQueued(**ids)
        yield RunInProgress(**ids)
    prompt, completion = rng.randrange(50, 6_000), rng.randrange(5, 900)
    cached = TokenDetails(cached_tokens=prompt // 3)
    used = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    yield rng.choices([RunCompleted, RunFailed], [9, 1])[0](**ids, usage=Usage(**used, prompt_token_details=cached))


def interleaved(seed: int = 7) -> Iterator[Event]:
    """Events of many runs at once, for ever."""
    rng = random.Random(seed)
    runs: list[tuple[float, int, Iterator[Event]]] = [(rng.random(), n, lifecycle(n, rng)) for n in range(OPEN_RUNS)]
    heapq.heapify(runs)
    count = OPEN_RUNS
    while True:
        at, number, events = heapq.heappop(runs)
        if (event := next(events, None)) is None:
            number, events = count, lifecycle(count, rng)
            count += 1
            event = next(events)
        yield event
        heapq.heappush(runs, (at + rng.random(), number, events))


async def publish(path: Path, events: list[Event]) -> float:
    """Events a second through the publisher, in batches, everything checked."""
    async with Publisher(SqliteSink(path, partitions=PARTITIONS), source="bench") as publisher:
        begun = time.perf_counter()
        for at in range(0, len(events), BATCH):
            await publisher.publish_many(events[at : at + BATCH])
        return len(events) / (time.perf_counter() - begun)


def insert_bare(path: Path, copied: Path) -> float:
    """Records a second when the bytes that are in the log are inserted as they are, in transactions of the same size."""
    with closing(sqlite3.connect(path)) as log, closing(sqlite3.connect(copied, isolation_level=None)) as bare:
        bare.execute("PRAGMA page_size = 8192")
        bare.execute("PRAGMA journal_mode = WAL")
        bare.execute("PRAGMA synchronous = FULL")
        bare.execute(
            "CREATE TABLE copied (offset INTEGER PRIMARY KEY, timestamp INTEGER, key BLOB, value BLOB, headers BLOB)"
        )
        tables = " UNION ALL ".join(
            f"SELECT timestamp, key, value, headers FROM partition_{n}" for n in range(PARTITIONS)
        )
        rows = [(offset, *row) for offset, row in enumerate(log.execute(tables))]
        begun = time.perf_counter()
        for at in range(0, len(rows), BATCH):
            bare.execute("BEGIN IMMEDIATE")
            bare.executemany("INSERT INTO copied VALUES (?, ?, ?, ?, ?)", rows[at : at + BATCH])
            bare.execute("COMMIT")
        return len(rows) / (time.perf_counter() - begun)


async def read(path: Path) -> float:
    """Process CPU seconds a record, fetched in batches of 5,000."""
    source = SqliteSource(path)
    await source.start()
    source.assign(dict.fromkeys(range(PARTITIONS), 0))
    count, begun = 0, time.process_time()
    while batch := await source.fetch(most_records=5_000, most_bytes=50_000_000, wait=0):
        count += sum(map(len, batch.values()))
    seconds = time.process_time() - begun
    await source.close()
    return seconds / count


async def follow(path: Path, events: list[Event]) -> list[float]:
    """Seconds from the call of publish to the record in a follower's hands, sorted."""
    source = SqliteSource(path)
    await source.start()
    source.assign({which: now.end for which, now in (await source.ranges(range(PARTITIONS))).items()})
    seconds = []
    async with Publisher(SqliteSink(path), source="bench") as publisher:
        for event in events:
            fetching = asyncio.create_task(source.fetch(most_records=100, most_bytes=10**6, wait=10))
            await asyncio.sleep(0.002)
            begun = time.perf_counter()
            publishing = asyncio.create_task(publisher.publish(event))
            assert await fetching
            seconds.append(time.perf_counter() - begun)
            await publishing
    await source.close()
    return sorted(seconds)


async def single(path: Path, events: list[Event], *, at_once: int) -> float:
    """Events a second when each is published by a call of its own, many calls at once."""
    async with Publisher(SqliteSink(path), source="bench") as publisher:
        begun = time.perf_counter()
        for at in range(0, len(events), at_once):
            await asyncio.gather(*map(publisher.publish, events[at : at + at_once]))
        return len(events) / (time.perf_counter() - begun)


def main(say: Callable[[str], None] = print) -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", type=int, default=200_000)
    given = options.parse_args()
    events = list(islice(interleaved(), given.events))
    gc.freeze()  # or the collector would walk over the events that are kept for the measurement
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runfold.log.db"
        published = asyncio.run(publish(path, events))
        bare = insert_bare(path, Path(folder) / "bare.db")
        size = path.stat().st_size / given.events
        say(
            f"publish_many, {BATCH:,} a call   {published:>10,.0f} events/s   {published / bare:.2f} x bare executemany"
        )
        say(f"bare executemany, same bytes   {bare:>10,.0f} rows/s     {size:.0f} bytes an event in the file")
        say(
            f"publish, 500 calls at once     {asyncio.run(single(path, events[:20_000], at_once=500)):>10,.0f} events/s"
        )
        say(f"fetch                          {asyncio.run(read(path)) * 1e6:>10.2f} us CPU a record")
        late = asyncio.run(follow(path, events[:LATENCIES]))
        middle, most = late[len(late) // 2] * 1e3, late[len(late) * 99 // 100] * 1e3
        say(f"publish -> fetched             {middle:>10.2f} ms p50, {most:.2f} ms p99")


if __name__ == "__main__":
    main()
