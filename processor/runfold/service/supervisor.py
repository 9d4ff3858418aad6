"""Several workers on one machine: a parent that starts them, starts again whoever dies, and leaves none behind.

The parent folds nothing and keeps no connection to log or store. Workers are processes of their own, spawned, each its
share of the partitions by the leases in the store, as workers on other machines have theirs. What may change here is when
a worker is started and ended; what a worker does is in ``serve.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from multiprocessing.connection import Connection
from typing import Final

from msgspec import Struct

from runfold.interrupts import interrupts_blocked
from runfold.service.serve import CLOSING_SECONDS, DrainExceeded
from runfold.telemetry import get_logger

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
STEADY_SECONDS: Final = 60.0
"""A worker that lived so long is started again at once; one that dies sooner waits, ever longer."""
REFUSALS: Final = frozenset({2, 3})
"""Exit codes of a worker that would not go on if it were started again: a setting, a store, a log to be seen to first."""


class Task(Struct, frozen=True, kw_only=True):
    """What a started worker is told: its ``number``, and the ``dead`` owners whose leases nobody needs to wait for."""

    number: int
    dead: tuple[str, ...]


class Hello(Struct, frozen=True):
    """A worker tells the name by which it will own partitions, before it owns any."""

    owner: str


class Refusal(Struct, frozen=True):
    """A worker tells why it does not go on, before it leaves with a code of REFUSALS."""

    words: str


class WorkerRefused(Exception):
    """A worker does not go on, and starting it again would not help: its exit code and its words."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


Work = Callable[[Task, Connection], None]
"""What a worker's process runs: it says Hello, folds until SIGTERM or until its work is done, and exits with its code."""


class Worker:
    """One place among the workers, and whoever has it now. ``alive``, ``restarts`` and ``pid`` are for health and metrics."""

    def __init__(self, number: int, work: Work) -> None:
        self.number, self.restarts = number, 0
        self.pid: int | None = None
        self._work = work
        self._process: multiprocessing.process.BaseProcess | None = None
        self._said: Connection | None = None
        self._dead: list[str] = []

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.is_alive()

    def start(self) -> None:
        """Start a process in this place. It does not get Ctrl-C: the parent passes on what it is told."""
        context = multiprocessing.get_context("spawn")
        self._said, says = context.Pipe(duplex=False)
        task = Task(number=self.number, dead=tuple(self._dead))
        self._process = context.Process(target=self._work, args=(task, says), name=f"runfold-worker-{self.number}")
        with interrupts_blocked():
            self._process.start()
        says.close()
        self.pid = self._process.pid

    async def ended(self) -> int:
        """The exit code of the process, once it has ended; negative where a signal ended it."""
        assert self._process is not None
        over, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.add_reader(self._process.sentinel, over.set)
        try:
            await over.wait()
        finally:
            loop.remove_reader(self._process.sentinel)
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode

    def last_words(self) -> str | None:
        """Why it does not go on, if it told so; remembers its name among the dead."""
        assert self._said is not None
        words = None
        with self._said, contextlib.suppress(EOFError, OSError):
            while self._said.poll():
                told = self._said.recv()
                if isinstance(told, Hello):
                    self._dead = [*self._dead[-2:], told.owner]  # the one before may not have been buried yet
                elif isinstance(told, Refusal):
                    words = told.words
        return words

    def send(self, how: signal.Signals) -> None:
        """Tell the process to end: SIGTERM in order, SIGKILL at once."""
        if self._process is not None and self.alive:
            (self._process.kill if how == signal.SIGKILL else self._process.terminate)()


Ended = Callable[[int], None]
"""Told the pid of each worker that has ended, however it ended."""

Beside = Callable[[Sequence[Worker]], AbstractAsyncContextManager[Ended]]
"""What the parent does beside its workers, given their places. It is entered before the first of them starts, so that it may
set what they inherit (such as PROMETHEUS_MULTIPROC_DIR), and left when the last has ended: the place to serve health and
metrics of all workers from."""


@asynccontextmanager
async def nothing(_: Sequence[Worker]) -> AsyncIterator[Ended]:
    """The parent does nothing else."""
    yield lambda _pid: None


async def supervise(
    work: Work, count: int, *, until_end: bool, stop: asyncio.Event, drain: float, beside: Beside = nothing
) -> None:
    """Run ``count`` workers until ``stop`` is set, or with ``until_end`` until each of them has found its work done.

    1. Every place has a task that starts a process, waits for its end, and starts the next one: at once after one that was
       steady, after a pause that doubles otherwise. The next one knows the dead one's name, and ends its leases.
    2. A worker that refuses to go on ends all of it: WorkerRefused, with its exit code and words.
    3. Whatever ends it, the others are told to end (SIGTERM), have ``drain`` seconds for it and a little more for closing,
       and are killed after that: DrainExceeded.

    Workers watch their parent (:mod:`runfold.service.orphans`): killed, it leaves none behind either.
    """
    workers = [Worker(number, work) for number in range(1, count + 1)]
    async with beside(workers) as ended:
        tasks = [asyncio.create_task(_keep_up(worker, stop, until_end=until_end, ended=ended)) for worker in workers]
        stopping = asyncio.create_task(stop.wait())
        try:
            await _first_failure_or_all(tasks, stopping)
        finally:
            stopping.cancel()
            stop.set()  # nobody is started again
            await _end(workers, tasks, within=drain + 3 * CLOSING_SECONDS)
        if failures := [failure for task in tasks if (failure := task.exception())]:
            raise failures[0]  # the others refused for the same reason


async def _first_failure_or_all(tasks: Sequence[asyncio.Task[None]], stopping: asyncio.Task[bool]) -> None:
    pending = set(tasks)
    while pending and not stopping.done():
        done, _ = await asyncio.wait({*pending, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if any(task in done and task.exception() for task in pending):
            return
        pending -= done


async def _end(workers: Sequence[Worker], tasks: Sequence[asyncio.Task[None]], *, within: float) -> None:
    for worker in workers:
        worker.send(signal.SIGTERM)
    _, late = await asyncio.wait(tasks, timeout=within)
    for worker in workers:
        worker.send(signal.SIGKILL)
    if late:
        await asyncio.wait(late)
        raise DrainExceeded(
            f"{len(late)} workers had not ended {within:g} s after they were told to (RUNFOLD_DRAIN), and were killed; the "
            "rest is read again at the next start"
        )


async def _keep_up(worker: Worker, stop: asyncio.Event, *, until_end: bool, ended: Ended) -> None:
    """One place, until its work is done. Raises WorkerRefused."""
    pause, loop, logger = 0.0, asyncio.get_running_loop(), get_logger()
    while not stop.is_set():
        begun = loop.time()
        worker.start()
        told = {"worker": worker.number, "pid": worker.pid}
        logger.info("worker_started", **told, restarts=worker.restarts)
        code = await worker.ended()
        ended(worker.pid or 0)
        words = worker.last_words()
        if code in REFUSALS:
            raise WorkerRefused(code, words or f"worker {worker.number} ended with {code}")
        if stop.is_set() or (code == 0 and until_end):
            return
        steady = loop.time() - begun >= STEADY_SECONDS
        pause = 0.0 if steady else min(LONGEST_PAUSE, pause * 2) or (FIRST_PAUSE if worker.restarts else 0.0)
        logger.error("worker_ended", **told, code=code, again_in=pause)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause)
        worker.restarts += 1
