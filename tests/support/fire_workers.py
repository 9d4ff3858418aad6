"""Processes that serve, for tests that do to them what operators, kernels and bad days do."""

# ruff: noqa: ASYNC110 - a process tells nobody that it has ended; these files are small

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil


class Worker:
    """One ``runfold serve``. What it logs goes to a file, so that nobody has to read it for it to go on."""

    def __init__(self, number: int, folder: Path, environment: Mapping[str, str], options: Sequence[str]) -> None:
        self.name = f"worker {number}"
        self._log = folder / f"worker-{number}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "runfold", "serve", "--no-api", *options],
                env={"RUNFOLD_HEALTH": "off", **environment},  # several on one machine: none listens
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.pid = self._process.pid
        self.wanted = True  # until somebody ends it
        self._served = False

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

    def kept_waiting(self) -> float:
        """Seconds in which it could have run and other processes did; 0 where the system does not tell."""
        waited = 0
        for told in Path(f"/proc/{self.pid}/task").glob("*/schedstat"):
            with suppress(OSError):  # a thread that has ended
                waited += int(told.read_text().split()[1])
        return waited / 1e9

    def processes(self) -> list[Hand]:
        """Those of its processes that may hold partitions: itself, or those it has started."""
        with suppress(psutil.NoSuchProcess):
            return [Hand(self.name, self.pid), *self._started()]
        return []

    def _started(self) -> list[Hand]:
        children = psutil.Process(self.pid).children()
        return [Hand(f"{self.name}, process {each.pid}", each.pid) for each in children]


class Hand:
    """One process that folds: a worker itself, or one of those of ``serve --workers``."""

    def __init__(self, name: str, pid: int) -> None:
        self.name, self.pid = name, pid
        self._process = psutil.Process(pid)

    @property
    def frozen(self) -> bool:
        return self._process.status() == psutil.STATUS_STOPPED

    def send(self, how: signal.Signals) -> None:
        self._process.send_signal(how)

    async def gone(self) -> None:
        """Wait until it folds no more, whether its parent has noticed or not."""
        async with asyncio.timeout(30):
            while self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE:
                await asyncio.sleep(0.005)
