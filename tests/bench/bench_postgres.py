"""What the PostgreSQL store costs an event: load, apply, and both again with many runs in the store already.

Run: ``python tests/bench/bench_postgres.py [--runs 1000000]``. Prints this process's CPU time an event, the server's beside
it, and the time on the clock, next to the bare minimum in the same run: the driver's own COPY of the same bodies into a
table without any index or check. The server is a real one with its files synchronized (fsync on) and ordinary settings.
The shape is that of bench_store.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import psutil
from bench_store import EVENTS, NEW, PARTITIONS, Traffic

from runfold.store.port import Lease
from runfold.store.postgres import PostgresStore

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from postgres_server import Server, own_server

SETTINGS = ("shared_buffers=512MB", "max_wal_size=4GB", "checkpoint_timeout=15min", "wal_compression=pglz")


class Spent(NamedTuple):
    """Seconds: CPU of this process, CPU of the server, time on the clock."""

    client: float
    server: float
    clock: float


class Meter:
    """Measures what passes between two looks."""

    def __init__(self, server: Server) -> None:
        self._server = psutil.Process(server.pid)
        self._seen: dict[int, float] = {}

    def now(self) -> Spent:
        for process in (self._server, *self._server.children(recursive=True)):
            try:
                times = process.cpu_times()
                self._seen[process.pid] = times.user + times.system
            except psutil.NoSuchProcess:
                continue
        used = resource.getrusage(resource.RUSAGE_SELF)
        return Spent(used.ru_utime + used.ru_stime, sum(self._seen.values()), time.perf_counter())

    def since(self, before: Spent) -> Spent:
        return Spent(*(now - then for now, then in zip(self.now(), before, strict=True)))


def told(spent: Spent, events: int) -> str:
    client, server, clock = (part * 1e6 / events for part in spent)
    return f"{client:.2f} us CPU here, {server:.2f} there, {clock:.2f} on the clock"


class Bench:
    def __init__(self, store: PostgresStore, leases: dict[int, Lease], meter: Meter) -> None:
        self.store, self.leases, self.meter = store, leases, meter
        self.traffic, self.batches = Traffic(), 0

    async def fill(self, runs: int) -> None:
        while self.traffic.made < runs:
            changes = self.traffic.batch(self.leases, number=self.batches, new=20_000)
            self.traffic.learn(await self.store.apply(changes, self.leases))
            self.batches += 1

    async def measure(self, batches: int) -> str:
        loading, applying = [Spent(0, 0, 0)], [Spent(0, 0, 0)]
        for _ in range(batches):
            changes = self.traffic.batch(self.leases, number=self.batches)
            absent: dict[int, list[str]] = {partition: [] for partition in self.leases}
            for run in changes.runs[:NEW]:
                absent[run.partition].append(run.run_id)
            before = self.meter.now()
            for partition, run_ids in absent.items():
                await self.store.load(partition, run_ids)
            loading.append(self.meter.since(before))
            before = self.meter.now()
            handles = await self.store.apply(changes, self.leases)
            applying.append(self.meter.since(before))
            self.traffic.learn(handles)
            self.batches += 1
        sums = [Spent(*map(sum, zip(*kind, strict=True))) for kind in (loading, applying)]
        events = batches * EVENTS
        together = Spent(*map(sum, zip(*sums, strict=True)))
        names = ("load", "apply", "together")
        return "".join(f"\n  {n:9}{told(s, events)}" for n, s in zip(names, (*sums, together), strict=True))


async def bare(url: str, meter: Meter, batches: int) -> str:
    """The floor: the same bodies, copied."""
    connection, traffic = await asyncpg.connect(url), Traffic()
    await connection.execute("create table bare (run_id text, thread_id text, body bytea)")
    total = [Spent(0, 0, 0)]
    for number in range(batches):
        rows = [(run.run_id, run.thread_id, run.body) for run in traffic.batch({}, number=number).runs]
        before = meter.now()
        await connection.copy_records_to_table("bare", records=rows)
        total.append(meter.since(before))
    await connection.execute("drop table bare")
    await connection.close()
    return told(Spent(*map(sum, zip(*total, strict=True))), batches * EVENTS)


async def run(given: argparse.Namespace, server: Server) -> None:
    meter = Meter(server)
    print("bare COPY of the same bodies:", await bare(server.url, meter, given.batches))
    store: Any = PostgresStore(server.url)
    await store.open()
    await store.bind(
        cluster_id="bench", topic="bench", partitions=8, fold_version=1, compatible=(), settings_hash="bench"
    )
    leases = await store.claim("bench", dict.fromkeys(range(PARTITIONS), 0), lease=3600)
    bench = Bench(store, leases, meter)
    await bench.measure(3)  # until statements are prepared, and dimensions known
    print("empty store:", await bench.measure(given.batches))
    await bench.fill(given.runs)
    print(f"{bench.traffic.made:,} runs in the store:", await bench.measure(given.batches))
    print(f"largest memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB")
    await store.close()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=1_000_000)
    options.add_argument("--batches", type=int, default=25)
    given = options.parse_args()
    with own_server(settings=SETTINGS) as server:
        asyncio.run(run(given, server))


if __name__ == "__main__":
    main()
