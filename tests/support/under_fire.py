"""Serving processes that tests kill, stop, wake, add and take away while they fold a topic, and what has to come of it.

A :class:`Fleet` is some ``runfold serve`` processes on a topic, with an eye on the positions that they commit. What is done
to them is printed, so that a test that fails tells its story; all that is random comes from the seed that pytest-randomly
prints.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Self

import psutil
from fire_topics import PATIENCE, Filled, Work, retried
from fire_workers import Hand, Worker
from serving import Quiet, held_by, settings_of

from runfold import wiring
from runfold.cli.status_report import Report, report
from runfold.log.clock import wall_clock
from runfold.store.port import LostRange, PartitionStatus, StoreUnreachable

LEFT = {0, 143, -signal.SIGTERM}
"""How a worker ends that is told to: with 0 once it serves; before that as whoever is terminated."""
LEASE = 1.0
SMALL = {"batch_records": 300, "batch_linger": 0, "lease": LEASE}
"""Many small transactions, so that faults fall into them, and successors that need not wait for long."""

BEARING = {"kafka_request_timeout_ms": 3_000, "patience": PATIENCE}
"""For outages that last as long as a broker takes to start."""


class Fleet:
    """Serving processes of one log into one store; ``async with`` makes the store and leaves no process behind.

    ``most`` is how many may serve the store at a time: an embedded one has a single one. ``eye`` is another way to the same
    store, which stays whole when the workers' own is cut. ``options`` are those of ``serve``.
    """

    def __init__(
        self,
        log: str,
        store: str,
        *,
        folder: Path,
        random: Random,
        eye: str = "",
        options: Sequence[str] = (),
        **environment: object,
    ) -> None:
        self.settings = settings_of(folder, log=log, store=eye or store)
        self.embedded = store.startswith("sqlite")
        self.most = 1 if self.embedded else 2
        self.random, self._options = random, options
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
        worker = Worker(len(self.workers) + 1, self._folder, self._environment, [*self._options, *options])
        self.workers.append(worker)
        return worker

    def fill(self) -> None:
        """As many workers as may be."""
        while len(self.living) < self.most:
            self.join()

    async def kill(self, hand: Hand) -> None:
        """End it as a crash would, and wait until it is gone. A worker that is killed is no longer wanted."""
        for worker in self.workers:
            worker.wanted = worker.wanted and worker.pid != hand.pid
        hand.send(signal.SIGKILL)
        await hand.gone()
        await self.tell(f"{hand.name} killed")

    async def leave(self, worker: Worker, *, within: float = 11.0) -> None:
        """End it as its operator would; by default it has the time of RUNFOLD_DRAIN, and a second to close."""
        worker.wanted = False
        worker.send(signal.SIGTERM)
        code = await worker.ended(within=within)
        await self.tell(f"{worker.name} told to leave")
        assert code in LEFT, f"{worker.name} left with {code}:\n{worker.text[-2000:]}"

    async def freeze(self, hand: Hand) -> None:
        hand.send(signal.SIGSTOP)
        await self.tell(f"{hand.name} frozen")

    async def thaw(self, hand: Hand) -> None:
        hand.send(signal.SIGCONT)
        await self.tell(f"{hand.name} woken")

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

    async def all_recovered(self) -> None:
        """Wait until every partition has been folded on from where it stands, and every worker has some."""
        stood = {each.partition: each.position for each in await self.look()}
        await self.until(
            lambda found: (
                all(each.position > stood.get(each.partition, 0) for each in found)
                and {owner_of(each) for each in found} >= {worker.pid for worker in self.living}
            )
        )

    async def until(self, condition: Callable[[list[PartitionStatus]], bool], *, within: float = PATIENCE) -> None:
        """Wait for a condition of the store's partitions; patience begins anew with every step forward."""
        best, deadline = -1, time.monotonic() + within
        while not condition(found := await self.look()):
            await asyncio.sleep(0.01)
            _ = self.living
            if (position := sum(each.position for each in found)) > best:
                best, deadline = position, time.monotonic() + within
            if time.monotonic() > deadline:
                tails = "\n".join(f"{each.name}: {each.text[-1500:]}" for each in self.living)
                raise AssertionError(f"no step further than {best} in {within:g} s\n{tails}")

    async def at_work(self) -> Hand:
        """A process that holds partitions and is not frozen, by chance any of them."""
        chosen: list[Hand] = []

        def any_at_work(found: list[PartitionStatus]) -> bool:
            owners = {owner_of(each) for each in found}
            with suppress(psutil.NoSuchProcess):  # it has just ended
                hands = [hand for worker in self.living for hand in worker.processes()]
                chosen[:] = [hand for hand in hands if hand.pid in owners and not hand.frozen]
            return bool(chosen)

        await self.until(any_at_work)
        return self.random.choice(chosen)

    async def outlived(self, hand: Hand) -> None:
        """Wait for longer than the lease of one that is frozen lasts, and until others have taken over from it.

        One that is frozen while it writes an embedded store keeps everybody out: there, nobody can be waited for.
        """
        await asyncio.sleep(1.2 * LEASE)
        if not self.embedded:
            await self.until(lambda found: hand.pid not in map(owner_of, found))

    def instants(self, work: Work) -> Instants:
        """Random instants of the work: see :class:`Instants`."""
        return Instants(self, work)

    async def folded(self, filled: Filled) -> Quiet:
        """What the store holds once all is folded and every worker has left in order."""
        self.fill()
        ends = dict(filled.ends)
        await self.until(lambda found: {each.partition: each.position for each in found} == ends)
        for worker in self.living:
            await self.leave(worker)
        return await self.held()

    async def until_end(self, *options: str) -> None:
        """One worker that leaves by itself when it has folded what the log had when it came."""
        worker = self.join("--until-end", *options)
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

    async def lost_ranges(self) -> list[LostRange]:
        """What was lost, as the store has it on record."""
        return await self._eye.lost_ranges()

    async def held(self) -> Quiet:
        """What the store holds."""
        return await retried(lambda: held_by(self._eye))  # type: ignore[no-any-return]

    async def tell(self, what: str) -> None:
        """Print what happened, when, and how far the work was."""
        with suppress(StoreUnreachable):
            self._position = sum(each.position for each in await self._eye.partitions())
        print(f"{time.monotonic() - self._begun:6.1f} s, at {self._position:,}: {what}")


class Instants:
    """``async for`` over random instants, each a random moment after a random place of the work was folded.

    What is befallen then meets those who are at work, and there is more of it, or the test had proven nothing.
    """

    def __init__(self, fleet: Fleet, work: Work) -> None:
        self._fleet, self._work = fleet, work

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> None:
        fleet = self._fleet
        fleet.fill()
        await fleet.all_serve()
        piece = await self._work.begin_piece()
        if piece is None:
            raise StopAsyncIteration
        await fleet.reached(fleet.random.choice(piece))
        await self._work.begin_piece()
        await asyncio.sleep(fleet.random.uniform(0, 0.03))  # the instant itself is the point


def owner_of(partition: PartitionStatus) -> int | None:
    """The process that holds it, if there is one."""
    return int(partition.owner.split(":")[1]) if partition.owner else None


async def assert_all_folded(fleet: Fleet, work: Work) -> None:
    """All of the work is folded, and the store is that of a quiet fold of it."""
    filled = await work.filled()
    assert_same(await fleet.folded(filled), filled.quiet)


def assert_same(found: Quiet, quiet: Quiet) -> None:
    """No event lost, none folded twice, and every row, letter, journal row and bucket the same."""
    different = [(ours, theirs) for ours, theirs in _side_by_side(found.lines, quiet.lines) if ours != theirs]
    assert found.records == quiet.records, f"{found.records:,} records were counted, of {quiet.records:,}"
    assert not different, f"{len(different):,} lines differ, the first: {different[0]}"
    assert found.digest == quiet.digest


def _side_by_side(ours: list[bytes], theirs: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    longest = max(len(ours), len(theirs))
    return zip(ours + [b""] * (longest - len(ours)), theirs + [b""] * (longest - len(theirs)), strict=True)
