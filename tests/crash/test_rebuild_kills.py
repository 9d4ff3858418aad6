"""Rebuilds, real processes, killed at every step and at random: there is always one live store, and it loses nothing."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from rebuilds import Command, commanded, held, served, store_of
from serving import settings_of

from runfold import wiring
from runfold.config import Settings
from runfold.store.digest import StoreDigest
from runfold.wiring import SHADOWS

SWITCH = ("replay", "rebuild", "--switch", "--yes", "--json")

FULL = (pytest.mark.faults, pytest.mark.timeout(3_600))

pytestmark = pytest.mark.usefixtures("collector")


@pytest.fixture(params=sorted(SHADOWS))
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    return settings_of(tmp_path, store=store_of(tmp_path, url))


async def roles(settings: Settings) -> list[str]:
    return [each.role for each in await wiring.open_shadows(settings).standing()]


SQLITE, POSTGRES = "runfold.store.sqlite_shadows:", "runfold.store.postgres_shadows:"
EXECUTED = "asyncpg.connection:Connection.execute@"
COMPARED = ("runfold.replay.rebuild:Building.compare", "after")
BEFORE = {
    "sqlite": [
        COMPARED,
        (f"{SQLITE}SqliteShadows._hold", "after"),
        (f"{SQLITE}_make_ready", "before"),
        (f"{SQLITE}_make_ready", "after"),
        (f"{SQLITE}_check_same", "after"),
        (f"{SQLITE}set_link", "after"),
    ],
    "postgresql": [
        COMPARED,
        (f"{POSTGRES}PostgresShadows.hold", "after"),
        (f"{POSTGRES}_exchange", "before"),
        (f'{EXECUTED}lock table "', "after"),
        (f"{EXECUTED}as other set epoch", "after"),
        (f"{EXECUTED}alter schema", "after"),
    ],
}
"""Steps of a switch up to its commit, by store, and whether to die before or after them."""
BEHIND = {
    "sqlite": [(f"{SQLITE}SqliteShadows._shorten", "before"), (f"{SQLITE}SqliteShadows._shorten", "after")],
    "postgresql": [(f"{POSTGRES}_exchange", "after")],
}
"""Steps after the commit."""


def each_step(steps: Mapping[str, Sequence[object]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("settings", "step"),
        [
            pytest.param(store, step, id=f"{store}-{number}")
            for store in steps
            for number, step in enumerate(steps[store])
        ],
        indirect=["settings"],
    )


async def dead(settings: Settings, step: tuple[str, str]) -> None:
    """A switch that died there."""
    code, _, told = await commanded(settings, *SWITCH, dying=step)
    assert code == -signal.SIGKILL, told


async def done_again(settings: Settings, before: StoreDigest) -> None:
    """The next switch succeeds, and the store is what the log says."""
    code, _, told = await commanded(settings, *SWITCH)
    assert (code, await held(settings)) == (0, before), told
    assert (await commanded(settings, "replay", "verify", "--json"))[0] == 0


@each_step(BEFORE)
async def test_killed_before_the_switch_is_committed(settings: Settings, step: tuple[str, str]) -> None:
    """Nothing has happened: the live store is the one of before, and the shadow can be switched to."""
    before = await served(settings, 300)
    await dead(settings, step)
    assert (await roles(settings), await held(settings)) == (["live", "shadow"], before)
    await done_again(settings, before)


@each_step(BEHIND)
async def test_killed_after_the_switch_is_committed(settings: Settings, step: tuple[str, str]) -> None:
    """All of it has happened: the other store is live, the former beside it, and another switch succeeds."""
    before = await served(settings, 300)
    await dead(settings, step)
    assert (await roles(settings), await held(settings)) == (["live", "former"], before)
    await done_again(settings, before)


@pytest.mark.parametrize(("kills", "events"), [(3, 150_000), pytest.param(10, 600_000, marks=FULL)])
@pytest.mark.parametrize("processes", [1, 2])
async def test_killed_again_and_again(settings: Settings, processes: int, kills: int, events: int) -> None:
    """Killed whenever a batch is committed, at last inside the switch, and resumed: the same digest, nothing folded twice."""
    before = await served(settings, events)
    total = sum((await at(settings, "live")).values())
    words = ("replay", "rebuild", "--json", "--processes", str(processes))
    for _ in range(kills - 1):
        code, _, told = await commanded(settings, *words, dying=("runfold.cli.pace:_Lines.__call__", "after"))
        assert code == -signal.SIGKILL, told
    committed = sum((await at(settings, "shadow")).values())
    assert committed > 0
    last = Command(settings, *words, "--switch", "--yes", dying=inside_switch(settings))
    await last.start()
    assert (await last.ended())[0] == -signal.SIGKILL, last.told
    assert last.progress[-1]["done"] == total - committed
    assert (await roles(settings), await held(settings)) == (["live", "shadow"], before)
    code, found, told = await commanded(settings, *words, "--switch", "--yes")
    assert code == 0, told
    assert (found["records"], found["identical"], found["switched"]) == (0, True, True)
    assert await held(settings) == before


def inside_switch(settings: Settings) -> tuple[str, str]:
    """The last step within the transaction that is the switch."""
    where, when = BEFORE[settings.store.partition(":")[0]][-1]
    return where, when


async def at(settings: Settings, role: str) -> dict[int, int]:
    """Where the store of that role stands."""
    shadows = wiring.open_shadows(settings)
    (name,) = [each.name for each in await shadows.standing() if each.role == role]
    store = shadows.opened(name)
    await store.open(write=False)
    try:
        return {each.partition: each.position for each in await store.partitions()}
    finally:
        await store.close()


@each_step(
    {store: [step for step, _ in BEFORE[store][:-1]] + [step for step, _ in BEHIND[store][-1:]] for store in BEFORE}
)
async def test_interrupted(settings: Settings, step: str) -> None:
    """Ctrl-C at any step ends with 130, all in or all out; what is live then is told, and it can be gone on with."""
    before = await served(settings, 300)
    code, _, told = await commanded(settings, *SWITCH, dying=(step, "interrupted"))
    assert code == 130, told
    there = await roles(settings)
    assert there in (["live", "shadow"], ["live", "former"])
    assert ("is the live store now" in told) == (there == ["live", "former"])
    assert await held(settings) == before
    await done_again(settings, before)


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
async def test_a_full_disk(settings: Settings) -> None:
    """A shadow that finds no room ends with 3, file and offset named; the live store is untouched, and it is gone on with."""
    before = await served(settings, 3_000)
    code, _, told = await commanded(settings, *SWITCH, largest_file=300_000)
    assert code == 3
    assert re.search(r"the store \S+rebuild-\S+ .*; partition \d had come to offset \d+$", told.strip()), told
    assert (await roles(settings), await held(settings)) == (["live", "shadow"], before)
    await done_again(settings, before)


@pytest.mark.parametrize(("when", "code"), [("after", -signal.SIGKILL), ("interrupted", 130)])
async def test_its_processes_end_with_it(settings: Settings, when: str, code: int) -> None:
    """Killed or interrupted, a rebuild of several processes leaves none of them behind."""
    await served(settings, 60_000)  # else it folds by itself
    words = ("replay", "rebuild", "--json", "--processes", "3")
    assert (await commanded(settings, *words, dying=("runfold.cli.pace:_Lines.__call__", when)))[0] == code
    async with asyncio.timeout(20):
        while _left(settings):  # noqa: ASYNC110 - other people's children tell nobody that they end
            await asyncio.sleep(0.05)


def _left(settings: Settings) -> list[int]:
    """Processes that are at work on these settings."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("RUNFOLD_DATA") == str(settings.data):
                found.append(process.pid)
    return found
