"""What the tests of the service share: ``runfold serve`` in a process of its own, filled logs, and the quiet fold of a log.

A *quiet* fold is the service itself, in this process, into memory, with nothing that disturbs it: what every other way of
folding the same log has to come to.
"""

# ruff: noqa: ASYNC240 - a test may wait for its own files

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from structlog.testing import capture_logs

from runfold import wiring
from runfold.config import Settings, load_settings
from runfold.demo.traffic import interleaved
from runfold.log.port import LogSource, Message
from runfold.log.sqlite import SqliteSink, SqliteSource
from runfold.service.serve import serve
from runfold.store.digest import StoreDigest, digest, dump
from runfold.store.memory import MemoryStore
from runfold.store.port import Store
from runfold.store.sqlite import SqliteStore
from runfold_schemas import Event, encode

PATIENCE = 60.0
"""Seconds after which a condition that a test waits for has failed."""


class Server:
    """``runfold serve`` on a data folder, in a process of its own. ``lines`` is what it has logged so far."""

    program: tuple[str, ...] = ("-m", "runfold")
    """What Python runs: the command, or a script that is the command with a fault in it."""

    def __init__(self, folder: Path, **environment: object) -> None:
        told = {f"RUNFOLD_{name.upper()}": str(value) for name, value in environment.items()}
        own = {name: value for name, value in os.environ.items() if not name.startswith("RUNFOLD_")}
        self._environment = {**own, "RUNFOLD_DATA": str(folder), "RUNFOLD_LOGGING_FORMAT": "json", **told}
        self.lines: list[dict[str, Any]] = []
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, *options: str, **popen: Any) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, *self.program, "serve", *options),
            env=self._environment,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            **popen,
        )

    async def said(self, event: str, **fields: object) -> dict[str, Any]:
        """The next line of that event and these fields; fails where the process ends without it."""
        async with asyncio.timeout(PATIENCE):
            while (line := await self._next()) is not None:
                if line.get("event") == event and fields.items() <= line.items():
                    return line
        raise AssertionError(f"the service ended without saying {event} {fields}: {self.lines[-5:]}")

    async def _next(self) -> dict[str, Any] | None:
        assert self._process is not None and self._process.stderr is not None
        raw = await self._process.stderr.readline()
        if not raw:
            return None
        try:
            line = json.loads(raw)
        except ValueError:
            line = {"text": raw.decode()}
        self.lines.append(line)
        return line

    def send(self, how: signal.Signals) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(how)

    async def ended(self, *, within: float = PATIENCE) -> int:
        """The exit code, once it has ended; what it logged until then is in ``lines``."""
        assert self._process is not None
        async with asyncio.timeout(within):
            while await self._next() is not None:
                pass
            return await self._process.wait()

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.send(how)
        return await self.ended()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def text(self) -> str:
        """What it told people, outside of its logs."""
        return "".join(line.get("text", "") for line in self.lines)

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line.get("event") == name]


@asynccontextmanager
async def server(folder: Path, **environment: object) -> AsyncIterator[Server]:
    """A server that does not outlive the test."""
    made = Server(folder, **environment)
    try:
        yield made
    finally:
        if made._process is not None:
            await made.stop(signal.SIGKILL)


def settings_of(folder: Path, **environment: object) -> Settings:
    told = {f"RUNFOLD_{name.upper()}": str(value) for name, value in environment.items()}
    return load_settings({"data": str(folder)}, environment=told)


def traffic(count: int, *, seed: int = 7, open_runs: int = 50) -> list[Event]:
    return list(islice(interleaved(open_runs, Random(seed)), count))


def messages(events: Sequence[Event]) -> list[Message]:
    return [Message(event.run_id.encode(), encode(event)) for event in events]


async def fill(folder: Path, written: Sequence[Message], *, partitions: int = 3, at_once: int = 5_000) -> Path:
    """Append to the embedded log of a data folder, which is made where there is none. Returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "runfold.log.db"
    sink = SqliteSink(path, partitions=partitions)
    await sink.start()
    for begin in range(0, len(written), at_once):
        await sink.append(written[begin : begin + at_once])
    await sink.close()
    return path


class Quiet:
    """What a store holds: digest, dump and the number of records that its tallies count."""

    def __init__(self, made: StoreDigest, lines: list[bytes], records: int) -> None:
        self.digest, self.lines, self.records = made, lines, records

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quiet) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


async def held_by(store: Store) -> Quiet:
    """What an open store holds."""
    view = await store.snapshot()
    try:
        lines = [line async for line in dump(view)]
        made = await digest(view)
    finally:
        await view.close()
    records = sum(sum(status.tally.values()) for status in await store.partitions())
    return Quiet(made, lines, records)


async def stored(folder: Path) -> Quiet:
    """What the embedded store of a data folder holds."""
    store = wiring.open_store(settings_of(folder))
    await store.open(write=False)
    try:
        return await held_by(store)
    finally:
        await store.close()


async def fold_quietly(folder: Path, *, source: LogSource | None = None, **environment: object) -> Quiet:
    """What comes of folding the embedded log of a data folder into memory, up to its end, with nothing in the way."""
    store = MemoryStore()
    source = source or SqliteSource(folder / "runfold.log.db")
    await serve(settings_of(folder, **environment), source, store, until_end=True, stop=asyncio.Event())
    return await held_by(store)


class Serving:
    """The service in this process, on a task of its own; ``logs`` is what it has logged, newest last."""

    def __init__(self, task: asyncio.Task[None], stop: asyncio.Event, logs: list[Any]) -> None:
        self.task, self.stop, self.logs = task, stop, logs

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition; raises what the service raised where it ends before."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                if self.task.done():
                    self.task.result()
                    raise AssertionError(f"the service ended: {self.logs[-5:]}")
                await asyncio.sleep(0.005)

    async def said(self, event: str, *, times: int = 1) -> dict[str, Any]:
        """The newest line of that event, once there are as many."""
        await self.until(lambda: len(self.events(event)) >= times)
        return self.events(event)[-1]

    async def folded(self, records: int) -> None:
        """Wait until that many records are committed."""
        await self.until(lambda: sum(line["records"] for line in self.events("batch_committed")) >= records)

    async def failure(self) -> BaseException | None:
        """What the service ends with, once it ends."""
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait((self.task,))
        return self.task.exception()

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.logs if line["event"] == name]

    async def end(self) -> None:
        self.stop.set()
        await self.task


@asynccontextmanager
async def serving(
    folder: Path,
    *,
    store: Store | None = None,
    source: LogSource | None = None,
    until_end: bool = False,
    **told: object,
) -> AsyncIterator[Serving]:
    """Serve a data folder in this process, on SQLite unless told otherwise, for as long as the block lasts."""
    settings = settings_of(folder, **told)
    source = source or SqliteSource(folder / "runfold.log.db")
    store = store or SqliteStore(folder / "runfold.db")
    stop = asyncio.Event()
    with capture_logs() as logs:
        task = asyncio.create_task(serve(settings, source, store, until_end=until_end, stop=stop))
        try:
            yield Serving(task, stop, logs)
        finally:
            stop.set()
            await asyncio.wait((task,))
            if not task.cancelled():
                task.exception()
