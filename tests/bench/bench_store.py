"""What the SQLite store costs an event: load, apply, and both again with many runs in the store already.

Run: ``python tests/bench/bench_store.py [--runs 1000000]``. Prints CPU time an event beside the bare minimum in the same run:
``executemany`` of the same bodies into a table without any index or check. The shape is that of a stream of agent runs:
a batch of 20,000 events in 8 partitions touches 5,200 runs, of which 4,200 are new and 76 % of those have ended already.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

from runfold.fold.changes import Changes, PositionChange, RunChange
from runfold.fold.usage import SUMS, BucketKey, Dimensions
from runfold.store.port import Lease
from runfold.store.sqlite import SqliteStore
from runfold_schemas import RunStatus

EVENTS, NEW, ENDED, PARTITIONS = 20_000, 4_200, 0.76, 8


def cpu_us() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return (used.ru_utime + used.ru_stime) * 1e6


class Traffic:
    """Makes batches of changes: new runs, and the ends of those that the batch before left open."""

    def __init__(self, *, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._bodies = [self._random.randbytes(self._random.randrange(650, 900)) for _ in range(1000)]
        self._dimensions = [
            Dimensions(f"model_{n % 5}", f"asst_{n % 50}", f"proj_{n % 20}", f"user_{n % 1000}") for n in range(5000)
        ]
        self.made = 0
        self._open: list[RunChange] = []

    def batch(self, leases: dict[int, Lease], *, number: int, new: int = NEW) -> Changes:
        fresh = [self._run() for _ in range(new)]
        ended = [run._replace(status=int(RunStatus.COMPLETED), minute=self._minute()) for run in self._open]
        self._open = [run for run in fresh if run.minute is None]
        usage: dict[BucketKey, list[int]] = {}
        for run in (*fresh, *ended):
            if run.minute is not None:
                bucket = BucketKey(run.minute, run.dimensions, run.status)
                sums = usage.setdefault(bucket, [0] * len(SUMS))
                sums[:] = [total + 1 for total in sums]
        positions = {
            partition: PositionChange(number * 2500, number * 2500 + 2500, number * 2500 + 2499, b"12345678")
            for partition in leases
        }
        tally = {partition: {"applied": 2500} for partition in leases}
        return Changes(runs=[*fresh, *ended], usage=usage, positions=positions, tally=tally)

    def learn(self, handles: dict[tuple[int, str], int]) -> None:
        self._open = [run._replace(handle=handles[run.partition, run.run_id]) for run in self._open]

    def _minute(self) -> int:
        return 29_333_333 + self.made // 20_000

    def _run(self) -> RunChange:
        self.made += 1
        ended = self._random.random() < ENDED
        return RunChange(
            self.made % PARTITIONS,
            f"run_{self._random.getrandbits(96):024x}",
            0,
            f"thread_{self._random.getrandbits(96):024x}",
            int(RunStatus.COMPLETED if ended else RunStatus.IN_PROGRESS),
            1_760_000_000 + self.made // 400,
            0,
            self._random.choice(self._dimensions),
            self._minute() if ended else None,
            1_760_000_000_000 + self.made if ended else None,
            self._bodies[self.made % 1000],
        )


class Bench:
    def __init__(self, store: SqliteStore, leases: dict[int, Lease]) -> None:
        self.store, self.leases = store, leases
        self.traffic, self.batches = Traffic(), 0
        self.spent = {"load": 0.0, "apply": 0.0}

    async def fill(self, runs: int) -> None:
        while self.traffic.made < runs:
            changes = self.traffic.batch(self.leases, number=self.batches, new=20_000)
            self.traffic.learn(await self.store.apply(changes, self.leases))
            self.batches += 1

    async def measure(self, batches: int) -> str:
        self.spent = dict.fromkeys(self.spent, 0.0)
        for _ in range(batches):
            changes = self.traffic.batch(self.leases, number=self.batches)
            by_partition: dict[int, list[str]] = {partition: [] for partition in self.leases}
            for run in changes.runs[:NEW]:
                by_partition[run.partition].append(run.run_id)
            before = cpu_us()
            await self.store.load_each(by_partition)
            between = cpu_us()
            self.traffic.learn(await self.store.apply(changes, self.leases))
            self.spent["load"] += between - before
            self.spent["apply"] += cpu_us() - between
            self.batches += 1
        load, apply = (self.spent[key] / batches / EVENTS for key in ("load", "apply"))
        absent = self.spent["load"] / batches / NEW
        return f"load {load:.2f} ({absent:.2f} an absent id), apply {apply:.2f}, together {load + apply:.2f} us/event"


def bare(path: Path, batches: int) -> float:
    """The floor: the same bodies, appended."""
    database, traffic = sqlite3.connect(path, isolation_level=None), Traffic()
    for pragma in ("page_size=8192", "journal_mode=wal", "synchronous=normal", "wal_autocheckpoint=8000"):
        database.execute(f"pragma {pragma}")
    database.execute("create table run (n integer primary key, run_id text, thread_id text, body blob)")
    spent = 0.0
    for number in range(batches):
        changes = traffic.batch({}, number=number)
        rows = [(run.run_id, run.thread_id, run.body) for run in changes.runs]
        before = cpu_us()
        database.execute("begin")
        database.executemany("insert into run (run_id, thread_id, body) values (?, ?, ?)", rows)
        database.execute("commit")
        spent += cpu_us() - before
    database.close()
    return spent / batches / EVENTS


async def run(runs: int, batches: int, *, say: Callable[[str], None] = print) -> None:
    with tempfile.TemporaryDirectory() as folder:
        floor = bare(Path(folder, "bare.db"), batches)
        say(f"bare executemany of the same bodies: {floor:.2f} us/event")
        store = SqliteStore(Path(folder, "store.db"))
        await store.open()
        await store.bind(
            cluster_id="bench", topic="bench", partitions=8, fold_version=1, compatible=(), settings_hash="bench"
        )
        leases = await store.claim("bench", dict.fromkeys(range(PARTITIONS), 0), lease=3600)
        bench = Bench(store, leases)
        say(f"empty store: {await bench.measure(batches)}")
        await bench.fill(runs)
        await bench.measure(batches // 2)  # until the key tables are in their steady state
        say(f"{bench.traffic.made:,} runs in the store: {await bench.measure(batches)}")
        say(f"largest memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB")
        await store.close()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=1_000_000)
    options.add_argument("--batches", type=int, default=25)
    given = options.parse_args()
    asyncio.run(run(given.runs, given.batches))


if __name__ == "__main__":
    main()
