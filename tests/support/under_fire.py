"""Serving processes that tests kill, stop, wake, add and take away while they fold a topic, and what has to come of it.

A :class:`Filled` topic has a known end and the store that a quiet fold of it comes to. A :class:`Fleet` is some ``runfold
serve`` processes on it, with an eye on the positions that they commit. What is done to them is printed, so that a test that
fails tells its story; all that is random comes from the seed that pytest-randomly prints.
"""

# ruff: noqa: ASYNC110 - a store and a process tell nobody that they got somewhere; these files are small

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, Self

from production import production_without_end
from serving import Quiet, fold_quietly, held_by, settings_of
from structlog.testing import capture_logs

from runfold import wiring
from runfold.cli.status_report import Report, report
from runfold.log.clock import wall_clock
from runfold.log.kafka import KafkaSource
from runfold.log.kafka_options import Address, KafkaOptions
from runfold.log.kafka_publish import KafkaSink
from runfold.log.port import LogUnreachable, Message
from runfold.store.port import PartitionStatus, StoreUnreachable

PATIENCE = 90.0
"""Seconds after which a fleet that gets no further has failed."""
LEFT = {0, 143, -signal.SIGTERM}
"""How a worker ends that is told to: with 0 once it serves; before that as whoever is terminated."""
LEASE = 1.0
SMALL = {"batch_records": 300, "batch_linger": 0, "lease": LEASE}
"""Many small transactions, so that faults fall into them, and successors that need not wait for long."""
AT_ONCE = 1_000
"""Records of one append, and so the bound of Kafka's own batches: many of them, for they are what a fetch gives at least."""


class Scale(NamedTuple):
    """How many records are folded, and how many times something befalls those who do it."""

    records: int
    times: int


class Filled(NamedTuple):
    """A topic, the ends of its partitions, and what a quiet fold of it comes to."""

    topic: Address
    ends: Mapping[int, int]
    quiet: Quiet

    @property
    def log(self) -> str:
        return log_of(self.topic)

    @property
    def records(self) -> int:
        return sum(self.ends.values())


def log_of(topic: Address) -> str:
    return f"kafka://{topic.servers}/{topic.topic}"


@asynccontextmanager
async def sink_of(topic: Address) -> AsyncIterator[Callable[[Sequence[Message]], Awaitable[None]]]:
    """Appends what it is given; what fails is appended again, as publishers do."""
    sink = KafkaSink(topic, KafkaOptions(request_timeout_ms=3_000, delivery_timeout_ms=10_000))
    await retried(sink.start)

    async def append(written: Sequence[Message]) -> None:
        for begin in range(0, len(written), AT_ONCE):
            await retried(partial(sink.append, written[begin : begin + AT_ONCE]))

    try:
        yield append
    finally:
        await sink.close()


@asynccontextmanager
async def publishing(topic: Address, random: Random, *, records: int = 0, pause: float = 0.05) -> AsyncIterator[None]:
    """Publishes production's records as long as the block lasts, a hundred and a pause; and at least ``records`` in all."""
    over = asyncio.Event()

    async def publish() -> None:
        written, count = production_without_end(random), 0
        async with sink_of(topic) as append:
            while not over.is_set():
                await append(list(islice(written, 100)))
                count += 100
                await asyncio.sleep(pause)
            await append(list(islice(written, max(0, records - count))))

    task = asyncio.create_task(publish())
    try:
        yield
    finally:
        over.set()
        await task


async def retried(ask: Callable[[], Awaitable[Any]]) -> Any:
    """What it gives once log and store can be reached."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await ask()
            except (LogUnreachable, StoreUnreachable):
                await asyncio.sleep(0.1)


async def looked_at(topic: Address) -> Filled:
    """What a topic holds now, folded in quiet."""
    source = KafkaSource(topic, KafkaOptions())
    await source.start()
    ranges = await source.ranges(range(await source.partitions()))
    await source.close()
    with tempfile.TemporaryDirectory() as folder, capture_logs():
        quiet = await fold_quietly(Path(folder), source=KafkaSource(topic, KafkaOptions()))
    return Filled(topic, {which: held.end for which, held in ranges.items()}, quiet)


class Worker:
    """One ``runfold serve``. What it logs goes to a file, so that nobody has to read it for it to go on."""

    def __init__(self, number: int, folder: Path, environment: Mapping[str, str], options: Sequence[str]) -> None:
        self.name = f"worker {number}"
        self._log = folder / f"worker-{number}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "runfold", "serve", *options],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.pid = self._process.pid
        self.wanted = True  # until somebody ends it
        self.frozen = self._served = False

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, how: signal.Signals) -> None:
        self._process.send_signal(how)

    async def ended(self, *, within: float) -> int:
        """Its exit code."""
        async with asyncio.timeout(within):
            while (code := self._process.poll()) is None:
                await asyncio.sleep(0.005)
        return code

    @property
    def serves(self) -> bool:
        """Whether it has said, once, which partitions it has."""
        self._served = self._served or bool(self.events("partitions_taken"))
        return self._served

    @property
    def text(self) -> str:
        """All that it has logged and said."""
        return self._log.read_text(errors="replace")

    def events(self, name: str) -> list[dict[str, Any]]:
        """Its log lines of that event."""
        lines = [json.loads(line) for line in self.text.splitlines() if line.startswith("{") and line.endswith("}")]
        return [line for line in lines if line["event"] == name]

    def end(self) -> None:
        """End it whatever it does, and leave no zombie in the system's sense."""
        if self.alive:
            self._process.kill()
        self._process.wait(30)


class Fleet:
    """Serving processes of one log into one store; ``async with`` makes the store and leaves no process behind.

    ``most`` is how many may serve the store at a time: an embedded one has a single one. ``eye`` is another way to the same
    store, which stays whole when the workers' own is cut.
    """

    def __init__(
        self, log: str, store: str, *, folder: Path, random: Random, eye: str = "", **environment: object
    ) -> None:
        self.settings = settings_of(folder, log=log, store=eye or store)
        self.most = 1 if store.startswith("sqlite") else 2
        self.random = random
        self._begun, self._position = time.monotonic(), 0
        self.workers: list[Worker] = []
        self._folder, self._eye = folder, wiring.open_store(self.settings)
        told = {"data": folder, "log": log, "store": store, "logging_format": "json", **SMALL, **environment}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RUNFOLD_")}
        self._environment = kept | {f"RUNFOLD_{name.upper()}": str(value) for name, value in told.items()}

    async def __aenter__(self) -> Self:
        maker = wiring.open_store(self.settings, make_folder=True)
        await maker.open()
        await maker.close()
        await self._eye.open(write=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.end()
        await self._eye.close()

    # -- what befalls the workers

    def join(self, *options: str) -> Worker:
        """One worker more."""
        worker = Worker(len(self.workers) + 1, self._folder, self._environment, options)
        self.workers.append(worker)
        return worker

    def fill(self) -> None:
        """As many workers as may be."""
        while len(self.living) < self.most:
            self.join()

    async def kill(self, worker: Worker) -> None:
        """End it as a crash would, and wait until it is gone."""
        worker.wanted = False
        worker.send(signal.SIGKILL)
        await worker.ended(within=30)
        await self.tell(f"{worker.name} killed")

    async def leave(self, worker: Worker, *, within: float = 11.0) -> None:
        """End it as its operator would; by default it has the time of RUNFOLD_DRAIN, and a second to close."""
        worker.wanted = False
        worker.send(signal.SIGTERM)
        code = await worker.ended(within=within)
        await self.tell(f"{worker.name} told to leave")
        assert code in LEFT, f"{worker.name} left with {code}:\n{worker.text[-2000:]}"

    async def freeze(self, worker: Worker) -> None:
        worker.send(signal.SIGSTOP)
        worker.frozen = True
        await self.tell(f"{worker.name} frozen")

    async def thaw(self, worker: Worker) -> None:
        worker.send(signal.SIGCONT)
        worker.frozen = False
        await self.tell(f"{worker.name} woken")

    def expect_ends(self) -> None:
        """From now on whoever lives may end by itself."""
        for worker in self.workers:
            worker.wanted = False

    # -- how far they are

    @property
    def living(self) -> list[Worker]:
        """Those who are wanted, frozen or not. One that has ended by itself fails the test."""
        for worker in self.workers:
            assert worker.alive or not worker.wanted, f"{worker.name} ended by itself:\n{worker.text[-3000:]}"
        return [worker for worker in self.workers if worker.wanted]

    async def look(self) -> list[PartitionStatus]:
        """What the store says of its partitions."""
        found: list[PartitionStatus] = await retried(self._eye.partitions)
        self._position = sum(each.position for each in found)
        return found

    async def position(self) -> int:
        """How many records are folded, over all partitions: they begin at 0."""
        return sum(found.position for found in await self.look())

    async def all_serve(self) -> None:
        """Wait until every worker has opened log and store: whoever cannot while it starts ends, and says so."""
        await self.until(lambda _: all(each.serves for each in self.living))

    async def reached(self, position: int) -> None:
        """Wait until that many records are folded."""
        await self.until(lambda found: sum(each.position for each in found) >= position)

    async def until(self, condition: Callable[[list[PartitionStatus]], bool], *, within: float = PATIENCE) -> None:
        """Wait for a condition of the store's partitions. Patience begins anew with every step forward."""
        best, deadline = -1, time.monotonic() + within
        while not condition(found := await self.look()):
            await asyncio.sleep(0.01)
            _ = self.living
            if (position := sum(each.position for each in found)) > best:
                best, deadline = position, time.monotonic() + within
            if time.monotonic() > deadline:
                tails = "\n".join(f"{each.name}: {each.text[-1500:]}" for each in self.living)
                raise AssertionError(f"no step further than {best} in {within:g} s\n{tails}")

    async def at_work(self) -> Worker:
        """A living worker that holds partitions, by chance any of them."""
        chosen: list[Worker] = []

        def any_at_work(found: list[PartitionStatus]) -> bool:
            owners = {int(each.owner.split(":")[1]) for each in found if each.owner}
            chosen[:] = [each for each in self.living if each.pid in owners and not each.frozen]
            return bool(chosen)

        await self.until(any_at_work)
        return self.random.choice(chosen)

    def instants(self, filled: Filled, times: int) -> Instants:
        """Random instants of the work: see :class:`Instants`."""
        return Instants(self, filled.records, times)

    async def folded(self, filled: Filled) -> Quiet:
        """What the store holds once all is folded and every worker has left in order."""
        self.fill()
        ends = dict(filled.ends)
        await self.until(lambda found: {each.partition: each.position for each in found} == ends)
        for worker in self.living:
            await self.leave(worker)
        return await self.held()

    async def until_end(self) -> None:
        """One worker that leaves by itself when it has folded what the log had when it came."""
        worker = self.join("--until-end")
        worker.wanted = False
        code = await worker.ended(within=PATIENCE)
        assert code == 0, worker.text[-2000:]

    async def status(self) -> Report:
        """What ``runfold status`` knows."""
        source = wiring.open_source(self.settings)
        await source.start()
        try:
            return await report(source, self._eye, rules=self.settings.rules, now=wall_clock())
        finally:
            await source.close()

    async def held(self) -> Quiet:
        """What the store holds."""
        return await retried(lambda: held_by(self._eye))  # type: ignore[no-any-return]

    async def tell(self, what: str) -> None:
        """Print what happened, when, and how far the work was."""
        with suppress(StoreUnreachable):
            self._position = sum(each.position for each in await self._eye.partitions())
        print(f"{time.monotonic() - self._begun:6.1f} s, at {self._position:,}: {what}")


class Instants:
    """``async for`` over random instants: each is met a random moment after a random position was committed.

    The positions lie within the work, and after each some of it is left, or the test has proven nothing.
    """

    def __init__(self, fleet: Fleet, records: int, times: int) -> None:
        self._fleet, self._records = fleet, records
        self._positions = iter(sorted(fleet.random.sample(range(records // 20, records * 4 // 5), times)))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> int:
        for position in self._positions:
            self._fleet.fill()
            await self._fleet.all_serve()
            await self._fleet.reached(position)
            await asyncio.sleep(self._fleet.random.uniform(0, 0.03))  # the instant itself is the point
            assert await self._fleet.position() < self._records, "all was folded already: nothing was befallen"
            return position
        raise StopAsyncIteration


def assert_same(found: Quiet, quiet: Quiet) -> None:
    """No event lost, none folded twice, and every row, letter, journal row and bucket the same."""
    different = [(ours, theirs) for ours, theirs in _side_by_side(found.lines, quiet.lines) if ours != theirs]
    assert found.records == quiet.records, f"{found.records:,} records were counted, of {quiet.records:,}"
    assert not different, f"{len(different):,} lines differ, the first: {different[0]}"
    assert found.digest == quiet.digest


def _side_by_side(ours: list[bytes], theirs: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    longest = max(len(ours), len(theirs))
    return zip(ours + [b""] * (longest - len(ours)), theirs + [b""] * (longest - len(theirs)), strict=True)
