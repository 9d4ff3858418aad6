"""What the tests of the command line share: a data folder of their own, the command in this process or another, a fold."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from runfold import wiring
from runfold.cli.exits import run
from runfold.config import Settings, load_settings
from runfold.fold.batch import PartitionFold
from runfold.fold.changes import Changes
from runfold.fold.rules import COMPATIBLE, FOLD_VERSION
from runfold.log.port import Message
from runfold_schemas import Event, encode
from runfold_schemas.codec import decode_lean


class Answer(Struct, frozen=True):
    """What a command said: its exit code, stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """Stdout as JSON Lines."""
        return [msgspec.json.decode(line) for line in self.out.splitlines()]


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder that every command of a test uses; nothing listens, no other setting is set."""
    for name in [name for name in os.environ if name.startswith("RUNFOLD_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "data"
    monkeypatch.setenv("RUNFOLD_DATA", str(folder))
    monkeypatch.setenv("RUNFOLD_HEALTH", "off")
    return folder


@pytest.fixture
def settings(data: Path) -> Settings:
    return load_settings()


@pytest.fixture
def cli(capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Answer]:
    """Runs the command in this process."""

    def call(*words: str) -> Answer:
        capfdbinary.readouterr()
        code = run(words)
        out, err = capfdbinary.readouterr()
        return Answer(code, out.decode(), err.decode())

    return call


@pytest.fixture
def command() -> Callable[..., Answer]:
    """Runs the command in a process of its own."""

    def call(*words: str, stdin: bytes = b"", **environment: str) -> Answer:
        done = subprocess.run(
            [sys.executable, "-m", "runfold", *words],
            input=stdin,
            capture_output=True,
            timeout=60,
            check=False,
            env=os.environ | environment,
        )
        return Answer(done.returncode, done.stdout.decode(), done.stderr.decode())

    return call


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts the command in a process of its own, which is ended with the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*words: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "runfold", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


@pytest.fixture
def append(settings: Settings) -> Callable[[Sequence[Message | Event]], None]:
    """Appends records, or events as they are, to the log."""

    async def write(messages: Sequence[Message]) -> None:
        sink = wiring.open_sink(settings)
        await sink.start()
        try:
            await sink.append(messages)
        finally:
            await sink.close()

    def call(records: Sequence[Message | Event]) -> None:
        messages = [
            Message(record.run_id.encode(), encode(record)) if isinstance(record, Event) else record
            for record in records
        ]
        asyncio.run(write(messages))

    return call


@pytest.fixture
def fold(settings: Settings) -> Callable[..., None]:
    """Folds what the log has into the store, with the given decoder."""

    def call(decode: Any = decode_lean) -> None:
        asyncio.run(_fold(settings, decode))

    return call


async def _fold(settings: Settings, decode: Any) -> None:
    source, store = wiring.open_source(settings), wiring.open_store(settings, make_folder=True)
    await source.start()
    await store.open()
    try:
        identity, count = await source.identity(), await source.partitions()
        await store.bind(
            cluster_id=identity.cluster_id,
            topic=identity.topic,
            partitions=count,
            fold_version=FOLD_VERSION,
            compatible=COMPATIBLE,
            settings_hash=settings.rules.settings_hash,
        )
        ranges = await source.ranges(range(count))
        leases = await store.claim("test", {which: held.begin for which, held in ranges.items()}, lease=60.0)
        changes = Changes()
        for which, lease in leases.items():
            part = PartitionFold(which, rules=settings.rules, decode=decode)
            async for records in source.read(which, begin=lease.position, end=ranges[which].end):
                rows = await store.load(which, part.absent(records))
                part.take_in((row.run_id, row.handle, row.body) for row in rows.values())
                part.fold(records, next_position=records[-1].offset + 1, expected=lease.position, changes=changes)
        await store.apply(changes, leases)
        await store.release("test", leases)
    finally:
        await store.close()
        await source.close()
