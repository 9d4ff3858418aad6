"""``runfold demo``: the whole of it on the embedded default, with real processes and the real commands.

A simulated platform publishes; a service in another process folds; the service is killed with SIGKILL twice and started
again; then the commands that people use show what came of it, and ``replay verify`` proves it.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path
from random import Random

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from runfold.config import Settings
from runfold.demo.platform import publish_broken, publish_runs
from runfold.log.port import LogSink, LogSource
from runfold.log.publisher import Publisher
from runfold.store.port import RunFilter, Store, StoreUnreachable

RUNS_PER_SECOND = 100
_SETTLED_WITHIN = 30.0
_LISTENING = re.compile(r"listening on (http://\S+)")
_say = Console(stderr=True, highlight=False).print


class DemoFailed(Exception):
    """The demonstration did not come out as it should; the message says at which step."""


class Command:
    """A command of runfold in a process of its own, which the demo may kill. What it says goes to a file beside the data."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._words = (*words, "--data", str(folder))
        self.log = folder / f"{words[0]}.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "runfold", *self._words, stdout=log, stderr=log
            )

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def end(self, how: signal.Signals) -> int:
        """Send a signal and wait; returns the exit code."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(how)
        return await self._process.wait()

    async def close(self) -> None:
        if self.running:
            await self.end(signal.SIGKILL)


def new_folder(data: Path) -> Path:
    """A folder that is not there yet, so that no demo ever touches what another one left."""
    number = 1
    while True:
        folder = (data / f"demo-{number}").absolute()
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


async def demo(
    settings: Settings, open_sink: Callable[[], LogSink], source: LogSource, store: Store, *, seconds: float, stay: bool
) -> None:
    """Run the demonstration in ``settings.data``. Raises DemoFailed where it does not come out as it should."""
    folder = settings.data
    runs = max(1, int(seconds * RUNS_PER_SECOND))
    _say(f"A [b]simulated[/b] agent platform publishes {runs:,} runs in {seconds:g} s; `runfold serve` folds them.")
    async with AsyncExitStack() as resources:
        service = Command(folder, "serve", "--health", "off", "--no-api")
        resources.push_async_callback(service.close)
        published = await _publish_and_kill(service, open_sink, runs=runs, seconds=seconds)
        await source.start()
        resources.push_async_callback(source.close)
        await _opened(store)
        resources.push_async_callback(store.close)
        await _caught_up(source, store)
        _say(f"{published:,} events published, all of them folded. What came of it:\n")
        await _show(folder, store)
        if stay:
            api = Command(folder, "api", "--port", "0")
            resources.push_async_callback(api.close)
            await _go_on(folder, open_sink, api)
        code = await service.end(signal.SIGTERM)
        if code:
            raise DemoFailed(f"the service left with exit code {code}; see {service.log}")
    _say(f"\nEverything is still there to look at: [b]runfold runs list --data {_short(folder)}[/b]")


async def _publish_and_kill(service: Command, open_sink: Callable[[], LogSink], *, runs: int, seconds: float) -> int:
    async with Publisher(open_sink(), source="simulated") as publisher:
        await service.start()
        killing = asyncio.create_task(_kill_twice(service, seconds))
        with _progress() as progress:
            task = progress.add_task("simulated events", total=None)
            count = await publish_runs(
                publisher,
                runs=runs,
                seconds=seconds,
                random=Random(),  # noqa: S311 - made-up traffic, no secrets
                progress=lambda more: progress.advance(task, more),
            )
        sink = open_sink()
        await sink.start()
        try:
            count += await publish_broken(sink)
        finally:
            await sink.close()
        await killing
        return count


async def _kill_twice(service: Command, seconds: float) -> None:
    for time in ("once", "twice"):
        await asyncio.sleep(seconds / 3)
        await service.end(signal.SIGKILL)
        _say(f"[red]kill -9[/red]: the service is gone ({time}), in the middle of its work; publishing goes on")
        await asyncio.sleep(min(1.0, seconds / 20))
        await service.start()
        _say("[green]started again[/green]: it reads on from where its last transaction ended")


async def _opened(store: Store) -> None:
    """Open the store to read, once there is one: on a busy machine both services that were killed may not have made it."""
    try:
        async with asyncio.timeout(_SETTLED_WITHIN):
            while True:
                try:
                    return await store.open(write=False)
                except StoreUnreachable:
                    await asyncio.sleep(0.05)
    except TimeoutError as error:
        raise DemoFailed(f"the service did not make its store within {_SETTLED_WITHIN:g} s") from error


async def _caught_up(source: LogSource, store: Store) -> None:
    """Wait until the store has folded all that the log holds."""
    ranges = await source.ranges(range(await source.partitions()))
    ends = {partition: held.end for partition, held in ranges.items()}
    try:
        async with asyncio.timeout(_SETTLED_WITHIN):
            while {status.partition: status.position for status in await store.partitions()} != ends:  # noqa: ASYNC110 - another process moves them
                await asyncio.sleep(0.05)
    except TimeoutError as error:
        raise DemoFailed(f"the service did not catch up within {_SETTLED_WITHIN:g} s") from error


async def _show(folder: Path, store: Store) -> None:
    busiest = max(await store.list_runs(RunFilter(limit=200)), key=lambda run: len(run.body))
    for words in (
        ("status",),
        ("usage", "--by", "model", "--bucket", "minute"),
        ("replay", "history", busiest.run_id),
        ("dead-letters", "list"),
        ("replay", "verify"),
    ):
        _say(f"[b]$ runfold {' '.join(words)}[/b]")
        command = (sys.executable, "-m", "runfold", *words, "--data", str(folder))
        process = await asyncio.create_subprocess_exec(*command)
        code = await process.wait()
        if code:
            raise DemoFailed(f"`runfold {' '.join(words)} --data {folder}` answered with exit code {code}")
        _say("")


async def _go_on(folder: Path, open_sink: Callable[[], LogSink], api: Command) -> None:
    """Publish a little traffic until Ctrl-C or SIGTERM, with the console to look at it."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for which in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(which, stop.set)
    _say("Staying up; simulated traffic goes on. Ctrl-C ends it.")
    _say(await _console(api))
    _say(f"In a terminal: [b]runfold status --watch --data {_short(folder)}[/b]")
    async with Publisher(open_sink(), source="simulated") as publisher:
        while not stop.is_set():
            random = Random()  # noqa: S311 - made-up traffic, no secrets
            await publish_runs(publisher, runs=10, seconds=1, random=random, progress=lambda _: None)


async def _console(api: Command) -> str:
    """Start what answers over HTTP, and say where it can be looked at, or what there has to be for that."""
    if find_spec("litestar") is None:
        return "With [b]pip install 'runfold\\[api]'[/b] there would be a page to look at."
    await api.start()
    while not (found := _LISTENING.search(api.log.read_text())):
        if not api.running:
            return f"There is no page to look at: {_short(api.log)} says why."
        await asyncio.sleep(0.05)
    return f"Look at [b]{found[1]}[/b] in a browser."


def _progress() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def _short(folder: Path) -> str:
    return os.path.relpath(folder)
