"""Ctrl-C at any instant of a verb of replay: it ends with 130 and one plain line, and the next start goes on.

The whole group of processes is interrupted, as a terminal does it. Instants are random, by pytest-randomly's seed, and lie
anywhere from the first import on: what Python does before that, it answers for itself.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from rebuilds import blemished, held, served, store_of
from serving import settings_of

from runfold import wiring
from runfold.config import Settings
from runfold.store.digest import StoreDigest

INTERRUPTED = "runfold: interrupted"
GUARDED = "runfold.cli"
"""What is imported when the command has taken Ctrl-C into its own hands."""

pytestmark = pytest.mark.usefixtures("collector")


@pytest.fixture(params=["sqlite"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    folder = tmp_path / "data"
    return settings_of(folder, store=store_of(folder, url), archive=f"archive:///{tmp_path}/archive")


class Ended(NamedTuple):
    """How a command ended, what it told people beside progress and imports, and how long it took from where it is guarded."""

    code: int
    told: list[str]
    seconds: float


class Command:
    """``runfold`` in a group of processes of its own, telling each of its imports as it comes."""

    def __init__(self, settings: Settings, *words: str) -> None:
        ours = {"data": settings.data, "log": settings.log, "store": settings.store, "archive": settings.archive}
        self._process = subprocess.Popen(
            [sys.executable, "-X", "importtime", "-m", "runfold", *words],
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("RUNFOLD_")},
                **{f"RUNFOLD_{name.upper()}": str(value) for name, value in ours.items()},
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stderr is not None
        self._errors = self._process.stderr
        self._lines: Iterator[str] = iter(self._errors)
        self._told: list[str] = []

    def guarded(self, imports: int = 1) -> None:
        """Return when it has taken Ctrl-C into its own hands, and so many imports have come since."""
        for line in self._lines:
            if self._imported(line) == GUARDED:
                break
        for line in self._lines:
            imports -= self._imported(line) is not None
            if imports <= 0:
                break
        self._begun = time.perf_counter()

    def interrupt(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGINT)

    def ended(self) -> Ended:
        """How it ends; a process that does not end is a failure."""
        stuck = threading.Timer(60, self._process.kill)
        stuck.start()
        try:
            for line in self._lines:
                self._imported(line)
            return Ended(self._process.wait(), self._told, time.perf_counter() - self._begun)
        finally:
            stuck.cancel()
            self._errors.close()

    def _imported(self, line: str) -> str | None:
        """The module that a line says was imported; keeps lines that are for people."""
        if line.startswith("import time:"):
            return line.rpartition("|")[2].strip()
        if not line.startswith('{"event":"progress"'):
            self._told.append(line.rstrip())
        return None


class Verb(NamedTuple):
    """What is done over and over; ``anew`` removes what it came to, so that there is all to do again."""

    words: Callable[[Settings], tuple[str, ...]]
    anew: Callable[[Settings], None] = lambda _: None
    events: int = 3_000


def restored(settings: Settings) -> Path:
    return settings.data.with_name("restored.db")


def without_archive(settings: Settings) -> None:
    shutil.rmtree(settings.data.with_name("archive"))


def without_restored(settings: Settings) -> None:
    for file in settings.data.parent.glob("restored.db*"):
        file.unlink()


def without_shadow(settings: Settings) -> None:
    shadows = wiring.open_shadows(settings)
    (name,) = [each.name for each in asyncio.run(shadows.standing()) if each.role == "shadow"]
    asyncio.run(shadows.drop(name))


def of_first_run(_: Settings) -> tuple[str, ...]:
    key = next(blemished(1)).key
    assert key is not None
    return "replay", "history", key.decode(), "--json"


REBUILD = ("replay", "rebuild", "--json")
SWITCH = (*REBUILD, "--switch", "--yes")
ARCHIVE = ("replay", "archive", "--segment-records", "200", "--json")
TIME = "2100-01-01T00:00:00Z"
VERBS = {
    "rebuild": Verb(lambda _: REBUILD, without_shadow),
    "rebuild by two": Verb(lambda _: (*REBUILD, "--processes", "2"), without_shadow, 60_000),
    "switch": Verb(lambda _: SWITCH),
    "verify": Verb(lambda _: ("replay", "verify", "--json")),
    "archive": Verb(lambda _: ARCHIVE, without_archive),
    "restore": Verb(
        lambda settings: ("replay", "restore", f"sqlite:///{restored(settings)}", "--resume", "--json"),
        without_restored,
    ),
    "as-of": Verb(lambda _: ("replay", "as-of", "usage", "--from-log", "--at", TIME, "--json")),
    "history": Verb(of_first_run),
}


def done(settings: Settings, *words: str) -> Ended:
    """A command that nobody interrupts."""
    command = Command(settings, *words)
    command.guarded()
    ended = command.ended()
    assert ended.code == 0, ended
    return ended


def check(settings: Settings, ended: Ended, quiet: Ended, before: StoreDigest) -> None:
    """It ended as it should, nothing is half done, and nothing is left lying about."""
    said = [line for line in ended.told if "live store" not in line]  # a switch tells what is
    if ended.code == 0:
        assert said == [line for line in quiet.told if "live store" not in line]
    else:
        assert (ended.code, said[-1:]) == (130, [INTERRUPTED]), ended
        assert set(said[:-1]) <= set(quiet.told)
    assert asyncio.run(held(settings)) == before
    assert [each.role for each in asyncio.run(wiring.open_shadows(settings).standing())].count("live") == 1
    assert list(settings.data.glob("replay-*")) == []


@pytest.mark.parametrize("instants", [4, pytest.param(60, marks=(pytest.mark.faults, pytest.mark.timeout(3_600)))])
@pytest.mark.parametrize(
    ("settings", "verb"), [*(("sqlite", verb) for verb in VERBS), ("postgresql", "switch")], indirect=["settings"]
)
def test_at_any_instant(settings: Settings, verb: str, instants: int) -> None:
    """Whenever it is interrupted, it says so in one line and ends with 130; the next start does what is left."""
    words, anew, events = VERBS[verb].words(settings), VERBS[verb].anew, VERBS[verb].events
    before = asyncio.run(served(settings, events))
    done(settings, *ARCHIVE)  # for those who read it
    quiet = done(settings, *words)
    anew(settings)
    for _ in range(instants):
        command = Command(settings, *words)
        command.guarded()
        time.sleep(random.uniform(0, quiet.seconds))  # the instant, not a condition
        command.interrupt()
        ended = command.ended()
        check(settings, ended, quiet, before)
        if ended.code == 0:
            anew(settings)
    check(settings, done(settings, *words), quiet, before)
    done(settings, "replay", "verify", "--json")
    done(settings, *ARCHIVE)
    done(settings, "replay", "archive", "--check", "--compare", "--json")


@pytest.mark.parametrize("instants", [6, pytest.param(100, marks=(pytest.mark.faults, pytest.mark.timeout(3_600)))])
def test_while_it_is_imported(settings: Settings, instants: int) -> None:
    """Between any two of its imports, too: Python would lose some of these interrupts, and tell others with a traceback."""
    for _ in range(instants):
        command = Command(settings, "replay", "verify")
        command.guarded(random.randrange(1, 300))
        command.interrupt()
        ended = command.ended()
        assert (ended.code, ended.told) == (130, [INTERRUPTED])
