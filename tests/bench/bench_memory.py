"""Memory of the serving process while a million runs pass through it, beside what it had when it began to serve.

Run it with ``python tests/bench/bench_memory.py [--runs N]``. Another process writes the runs into the log, 5,000 of them
open at any time and three events each, while ``runfold serve`` folds; its resident memory is asked of the system whenever
it has committed another twentieth. Target: <= 250 MB, and flat.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from serving import Server, server

from runfold.log.port import Message
from runfold.log.sqlite import SqliteSink
from runfold_schemas import RunCompleted, RunCreated, RunInProgress, Usage, encode

OPEN_RUNS = 5_000
TARGET = 250
AT_ONCE = 2_500
EVENTS = 3
PARTITIONS = 4
START = 1_760_000_000_000
MODELS = ("gpt-4o", "gpt-4o-mini", "o3")


def events_of(number: int) -> tuple[Message, Message, Message]:
    """One run in three events, a run a millisecond."""
    at = START + number
    run_id, thread_id = f"run_{number:024x}", f"thread_{number % 100_000:024x}"
    project = {"project_id": f"proj_{number % 20}", "user_id": f"user_{number % 1000}"}
    used = Usage(
        prompt_tokens=number % 5_000, completion_tokens=number % 700, total_tokens=number % 5_000 + number % 700
    )
    key, common = run_id.encode(), {"run_id": run_id, "thread_id": thread_id, "source": "bench"}
    model, assistant = MODELS[number % 3], f"asst_{number % 50}"
    told = (
        RunCreated(**common, id="1", sequence=1, occurred_at=at, model=model, assistant_id=assistant, metadata=project),
        RunInProgress(**common, id="2", sequence=2, occurred_at=at + 20),
        RunCompleted(**common, id="3", sequence=3, occurred_at=at + 900, usage=used),
    )
    first, second, third = (Message(key, encode(event)) for event in told)
    return first, second, third


def interleaved(runs: int) -> Iterator[Message]:
    """All runs' events, each run open while 5,000 others begin."""
    waiting: dict[int, tuple[Message, Message, Message]] = {}
    for number in range(runs + OPEN_RUNS):
        if number < runs:
            waiting[number] = events_of(number)
            yield waiting[number][0]
        if (under_way := waiting.get(number - OPEN_RUNS // 2)) is not None:
            yield under_way[1]
        if (ending := waiting.pop(number - OPEN_RUNS, None)) is not None:
            yield ending[2]


async def write(log: Path, runs: int) -> None:
    sink = SqliteSink(log, partitions=PARTITIONS)
    await sink.start()
    some: list[Message] = []
    for message in interleaved(runs):
        some.append(message)
        if len(some) == AT_ONCE:
            await sink.append(some)
            some = []
    await sink.append(some)
    await sink.close()


def memory_of(pid: int) -> int:
    """Resident memory in MB."""
    answer = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], check=True, capture_output=True, text=True)
    return int(answer.stdout) >> 10


def size_of(folder: Path) -> int:
    """The folder's files in MB."""
    return sum(file.stat().st_size for file in folder.iterdir()) >> 20


async def follow(service: Server, runs: int) -> list[tuple[int, int]]:
    """(records, MB) at every twentieth of the way."""
    records, seen, step = 0, list[tuple[int, int]](), runs * EVENTS // 20
    while records < runs * EVENTS:
        records += (await service.said("batch_committed"))["records"]
        service.lines.clear()
        if records >= step * (len(seen) + 1):
            seen.append((records, await asyncio.to_thread(memory_of, service.pid)))
    return seen


async def measure(runs: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = (sys.executable, __file__, "--write", str(folder / "runfold.log.db"), "--runs", str(runs))
        async with server(folder) as service:
            begun = time.perf_counter()
            await service.start()
            writing = await asyncio.create_subprocess_exec(*command)
            await service.said("partitions_taken")
            empty = await asyncio.to_thread(memory_of, service.pid)
            seen = await follow(service, runs)
            seconds = time.perf_counter() - begun
            await writing.wait()
            await service.stop()
        size = await asyncio.to_thread(size_of, folder)
    most = max(memory for _, memory in seen)
    half = max(memory for _, memory in seen[: len(seen) // 2])
    print(f"{runs:,} runs, {runs * EVENTS:,} events in {seconds:.0f} s; {size:,} MB of log and store")
    print("MB of resident memory at each twentieth:", *(memory for _, memory in seen))
    print(f"empty {empty} MB, first half at most {half} MB, second half {max(m for _, m in seen[len(seen) // 2 :])} MB")
    print(
        f"most {most} MB; most / target of {TARGET} MB {most / TARGET:.2f}; second half / first half {seen[-1][1] / half:.2f}"
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=1_000_000)
    options.add_argument("--write", type=Path)
    given = options.parse_args()
    if given.write:
        asyncio.run(write(given.write, given.runs))
    else:
        asyncio.run(measure(given.runs))


if __name__ == "__main__":
    main()
