"""The whole embedded path, from the SQLite log to the committed SQLite store: CPU an event, beside a bare prototype.

Run it with ``python tests/bench/bench_embedded.py [--events N] [--rounds N]``. The prototype reads the same log and does
the least that could be called the job: decode, fold, one transaction a batch with the positions; no ids remembered, no
order, no gaps, no dead letters, no leases, no index over threads. What we cost above it is the price of being right. Each
measurement is a process of its own; both take turns, so that what else the machine does hits both. Target: <= 7.5 us.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

from runfold import wiring
from runfold.config import load_settings
from runfold.demo.traffic import interleaved
from runfold.log.port import Message
from runfold.service.serve import serve
from runfold.telemetry import configure_logging
from runfold_schemas import encode

PARTITIONS = 8
OPEN_RUNS = 5_000
TARGET = 7.5


class Measured(NamedTuple):
    """Process CPU seconds, wall seconds, and the peak of resident memory in MB."""

    cpu: float
    seconds: float
    memory: int


async def fill(folder: Path, count: int) -> None:
    """Write the workload: 5,000 runs open at any time, some five events each."""
    sink = wiring.open_sink(load_settings({"data": str(folder), "partitions": str(PARTITIONS)}, environment={}))
    await sink.start()
    events = interleaved(OPEN_RUNS, Random(7))
    left = count
    while left > 0:
        some = [Message(event.run_id.encode(), encode(event)) for event in islice(events, min(left, 5_000))]
        await sink.append(some)
        left -= len(some)
    await sink.close()


async def ours(folder: Path, batch: int) -> None:
    settings = load_settings({"data": str(folder), "batch_records": str(batch)}, environment={})
    source, store = wiring.open_source(settings), wiring.open_store(settings)
    await serve(settings, source, store, until_end=True, stop=asyncio.Event())


class Event(Struct, frozen=True, tag_field="type"):
    """The least a fold needs to know."""

    id: str
    run_id: str
    thread_id: str
    occurred_at: int


class Created(Event, tag="thread.run.created"):
    assistant_id: str
    model: str
    tools: Raw = Raw()
    metadata: dict[str, str] = {}


class Queued(Event, tag="thread.run.queued"): ...


class InProgress(Event, tag="thread.run.in_progress"): ...


class RequiresAction(Event, tag="thread.run.requires_action"):
    required_action: Raw


class Ended(Event):
    usage: dict[str, Any] | None = None


class Completed(Ended, tag="thread.run.completed"): ...


class Failed(Ended, tag="thread.run.failed"): ...


class Cancelled(Ended, tag="thread.run.cancelled"): ...


class Expired(Ended, tag="thread.run.expired"): ...


KINDS = (Created, Queued, InProgress, RequiresAction, Completed, Failed, Cancelled, Expired)
decode = msgspec.msgpack.Decoder(
    Created | Queued | InProgress | RequiresAction | Completed | Failed | Cancelled | Expired
).decode
encode_run = msgspec.msgpack.Encoder().encode
STATUS = {kind: number for number, kind in enumerate(KINDS)}


class Run(Struct):
    created: Created
    row: int
    status: int = 0
    started_at: int | None = None
    ended_at: int | None = None
    required_action: Raw | None = None
    usage: dict[str, Any] | None = None


class Prototype:
    """Decodes, folds and commits, and remembers nothing but the open runs."""

    def __init__(self, folder: Path) -> None:
        self.log = sqlite3.connect(folder / "runfold.log.db", isolation_level=None)
        self.db = sqlite3.connect(folder / "prototype.db", isolation_level=None)
        self.db.executescript("""
            pragma page_size = 8192; pragma journal_mode = wal; pragma synchronous = normal; pragma cache_size = -64000;
            create table run (n integer primary key, id text, thread_id text, status integer, created_at integer, body blob);
            create unique index run_id on run (id);
            create table usage (minute integer, model text, assistant text, project text, user text, status integer,
                runs integer, prompt integer, completion integer, total integer,
                primary key (minute, model, assistant, project, user, status)) without rowid;
            create table position (partition integer primary key, next integer);""")
        self.runs: dict[str, Run] = {}
        self.rows = 0

    def run(self, batch: int) -> None:
        positions = dict.fromkeys(range(PARTITIONS), 0)
        share = batch // PARTITIONS
        while True:
            values: list[bytes] = []
            for partition, position in positions.items():
                found = self.log.execute(
                    f"select offset, value from partition_{partition} where offset >= ? order by offset limit ?",
                    (position, share),
                ).fetchall()
                values += [value for _, value in found]
                positions[partition] = found[-1][0] + 1 if found else position
            if not values:
                return
            self.apply(values, positions)

    def apply(self, values: list[bytes], positions: dict[int, int]) -> None:
        touched: dict[str, Run] = {}
        usage: dict[tuple[Any, ...], list[int]] = {}
        new = self.rows
        for value in values:
            self.fold(decode(value), touched, usage)
        fresh = [
            (run.row, run.created.run_id, run.created.thread_id, run.status, run.created.occurred_at, encode_run(run))
            for run in touched.values()
            if run.row > new
        ]
        old = [(run.status, encode_run(run), run.row) for run in touched.values() if run.row <= new]
        old.sort(key=lambda row: row[2])
        do = self.db.executemany
        self.db.execute("begin immediate")
        do("insert into run values (?, ?, ?, ?, ?, ?)", fresh)
        do("update run set status = ?, body = ? where n = ?", old)
        do(
            """insert into usage values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict do update set runs = runs + excluded.runs,
                prompt = prompt + excluded.prompt, completion = completion + excluded.completion,
                total = total + excluded.total""",
            sorted((*key, *sums) for key, sums in usage.items()),
        )
        do("insert or replace into position values (?, ?)", positions.items())
        self.db.execute("commit")

    def fold(self, event: Any, touched: dict[str, Run], usage: dict[tuple[Any, ...], list[int]]) -> None:
        kind, run_id = type(event), event.run_id
        if kind is Created:
            self.rows += 1
            run = self.runs[run_id] = Run(event, self.rows)
        else:
            run = self.runs[run_id]
        run.status = STATUS[kind]
        run.required_action = event.required_action if kind is RequiresAction else None
        if kind is InProgress:
            run.started_at = event.occurred_at
        touched[run_id] = run
        if run.status < STATUS[Completed]:
            return
        run.ended_at, run.usage = event.occurred_at, event.usage
        del self.runs[run_id]
        created, of, used = run.created, run.created.metadata.get, event.usage
        key = (run.ended_at // 60_000, created.model, created.assistant_id, of("project_id"), of("user_id"), run.status)
        sums = usage.setdefault(key, [0, 0, 0, 0])
        sums[0] += 1
        sums[1] += used["prompt_tokens"]
        sums[2] += used["completion_tokens"]
        sums[3] += used["total_tokens"]


def measure(what: str, folder: Path, batch: int) -> Measured:
    """In this process: what it costs to fold the log that is in the folder."""
    gc.collect()
    gc.freeze()
    begun, cpu = time.perf_counter(), time.process_time()
    if what == "ours":
        configure_logging(level="error", style="json")
        asyncio.run(ours(folder, batch))
    else:
        Prototype(folder).run(batch)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return Measured(time.process_time() - cpu, time.perf_counter() - begun, memory)


def measured_apart(what: str, folder: Path, batch: int) -> Measured:
    """The same in a process of its own, into a new store."""
    for name in ("runfold.db", "prototype.db"):
        for file in folder.glob(f"{name}*"):
            file.unlink()
    command = (sys.executable, __file__, "--measure", what, "--folder", str(folder), "--batch", str(batch))
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return Measured(*json.loads(answer.stdout))


def compare(count: int, rounds: int, batch: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asyncio.run(fill(folder, count))
        taken: dict[str, list[Measured]] = {"ours": [], "prototype": []}
        for _ in range(rounds):
            for what, list_ in taken.items():
                list_.append(measured_apart(what, folder, batch))
    costs = {what: median(of.cpu for of in list_) / count * 1e6 for what, list_ in taken.items()}
    for what, list_ in taken.items():
        speed = count / median(of.seconds for of in list_)
        memory = max(of.memory for of in list_)
        print(f"{what:10} {costs[what]:6.2f} us CPU an event {speed:>10,.0f} events/s {memory:>6} MB")
    print(
        f"ours / prototype {costs['ours'] / costs['prototype']:.2f}; ours / target of {TARGET} us {costs['ours'] / TARGET:.2f}"
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", type=int, default=200_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--batch", type=int, default=40_000)
    options.add_argument("--measure", choices=["ours", "prototype"])
    options.add_argument("--folder", type=Path)
    given = options.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure, given.folder, given.batch)))
    else:
        compare(given.events, given.rounds, given.batch)


if __name__ == "__main__":
    main()
