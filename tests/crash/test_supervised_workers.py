"""``runfold serve --workers``: workers that die, a parent that dies, signals, refusals, and a record that kills."""

# ruff: noqa: ASYNC110 - processes of others tell nobody that they are gone

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from probing import LISTEN, Probe, code
from serving import Server
from worlds import World, written

from runfold.cli.exits import run
from runfold.log.port import Message
from runfold_schemas import RunCreated, RunInProgress, encode

pytestmark = pytest.mark.usefixtures("collector")

SMALL = {"batch_records": 200, "batch_linger": 0, "lease": 2, "drain": 5}
KILLING = (str(Path(__file__).parents[1] / "support" / "killing_serve.py"),)
AT = 1_760_000_000_000


@pytest.fixture(params=["sqlite", "postgresql"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """An embedded log of eight partitions, and a store of either kind."""
    store = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    made = World(tmp_path, store=store, **SMALL)
    await made.write([])
    await made.make()
    yield made
    await made.close()


async def started(world: World, *options: str, workers: int = 2) -> tuple[Server, list[int]]:
    """A parent and the pids of its workers, once each of them has joined."""
    service = await world.serve("--workers", str(workers), *options)
    pids = [(await service.said("worker_started"))["pid"] for _ in range(workers)]
    await world.until(lambda found: len(found) == workers)
    return service, pids


async def gone(pids: Sequence[int], *, within: float = 5) -> None:
    """Wait until none of these processes is there."""
    async with asyncio.timeout(within):
        while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
            await asyncio.sleep(0.02)


async def test_a_worker_that_dies_is_started_again(world: World) -> None:
    """The parent says who died and starts another; the store is that of a quiet fold."""
    await world.write(written(5_000))
    service, pids = await started(world)
    psutil.Process(pids[0]).kill()
    line = await service.said("worker_ended")
    assert (line["pid"], line["code"]) == (pids[0], -signal.SIGKILL)
    again = await service.said("worker_started")
    assert (again["worker"], again["restarts"]) == (line["worker"], 1)
    await world.write(written(5_000, seed=8))
    await world.folded(10_000)
    assert await service.stop() == 0
    assert await world.held() == await world.quiet()


async def test_the_parent_answers_for_all(tmp_path: Path) -> None:
    """Ready when each has its share; a worker that is killed is told of, and its successor is ready; all is counted."""
    world = World(tmp_path, **SMALL | LISTEN)
    await world.write(written(3_000))
    await world.make()
    service = await world.serve("--workers", "2")
    probe = Probe((await service.said("health_listening"))["address"])
    pid = (await service.said("worker_started"))["pid"]
    await probe.until("/readyz", code(200))
    before = await probe.metrics()
    assert (before.one("workers"), before.one("workers_running"), sum(before.all("events_total").values())) == (
        2,
        2,
        3_000,
    )
    assert sorted(before.all("partitions_owned").values()) == [4, 4]
    psutil.Process(pid).kill()
    await service.said("worker_started", restarts=1)
    await world.write(written(1_000, seed=8))
    await world.folded(4_000)
    await probe.until("/readyz", code(200))
    after = await probe.metrics()
    assert (after.one("workers_running"), after.one("worker_restarts_total")) == (2, 1)
    assert sum(after.all("events_total").values()) == 4_000
    assert (str(pid),) not in after.all("partitions_owned")
    assert await service.stop() == 0
    await world.close()


async def test_sigterm_ends_all(world: World) -> None:
    """SIGTERM to the parent drains all workers, which give back their partitions; nobody is left."""
    world.environment["lease"] = 20  # none runs out while a busy machine keeps a worker waiting
    await world.write(written(5_000))
    service, pids = await started(world)
    assert await service.stop(signal.SIGTERM) == 0
    await gone(pids)
    assert not any(each.owner for each in await world.look())
    assert len(service.events("partitions_released")) == 2


async def test_ctrl_c_ends_all_in_order(world: World) -> None:
    """Ctrl-C in a terminal, which every process of the group gets, is no other thing than SIGTERM to the parent."""
    service, pids = await started(world)
    for pid in (*pids, service.pid):
        psutil.Process(pid).send_signal(signal.SIGINT)
    assert (await service.ended(), service.text) == (0, "")
    await gone(pids)
    assert len(service.events("partitions_released")) == 2


@pytest.mark.parametrize("frozen", [False, True], ids=["working", "stopped"])
async def test_a_killed_parent_leaves_nobody(world: World, frozen: bool) -> None:
    """Workers end with their parent, also one that is stopped, and the next start serves the store at once."""
    service, pids = await started(world)
    if frozen:
        psutil.Process(pids[0]).suspend()
    await service.stop(signal.SIGKILL)
    await gone(pids)
    await world.write(written(1_000))
    after = await world.serve("--until-end")
    assert (await after.ended(), after.text) == (0, "")
    assert await world.held() == await world.quiet()


async def test_a_refusal_is_told_once(world: World) -> None:
    """Where workers refuse to go on, the parent ends with their code and their words, said once, and starts none again."""
    await world.write(written(100))
    log = world.folder / "runfold.log.db"
    first = await world.serve("--until-end")
    await first.ended()
    for file in world.folder.glob("runfold.log.db*"):
        file.unlink()
    await world.write(written(100, seed=8))
    assert log.exists()
    service = await world.serve("--workers", "3")
    assert await service.ended() == 2
    assert service.text.count("belongs to the log") == 1, service.text
    assert not service.events("worker_ended")


async def test_one_parent_a_store(tmp_path: Path) -> None:
    """A second parent of an embedded store is refused with the pid of the first."""
    world = World(tmp_path, **SMALL)
    await world.write([])
    await world.make()
    service, _ = await started(world)
    second = await world.serve("--workers", "2")
    assert await second.ended() == 2
    assert str(service.pid) in second.text
    await world.close()


def killer(run_id: str) -> Message:
    event = RunCreated(run_id=run_id, thread_id="t", id="killer", occurred_at=AT, model="gpt-4o")
    return Message(run_id.encode(), encode(event))


async def test_a_record_that_kills_is_set_aside(world: World, monkeypatch: Any, capfd: Any) -> None:
    """The service finds it by itself, sets it aside, and folds all others; mended, the letter is retried."""
    behind = RunInProgress(run_id="run_killing", thread_id="t", id="2", occurred_at=AT + 1)
    last = Message(b"run_killing", encode(behind))
    await world.write([*written(150), killer("run_killing"), last, *written(150, seed=8)])
    service = await world.serve("--workers", "2", program=KILLING)
    await world.folded(302)
    found = await service.said("record_set_aside")
    assert await service.stop() == 0
    (note,) = await world.of_store(lambda store: store.notes())
    (letter,) = await world.of_store(lambda store: store.letters(run_id="run_killing"))
    assert (note.partition, note.offset) == (found["partition"], found["offset"]) == (letter.partition, letter.offset)
    assert (note.kind, letter.reason) == ("set_aside", "set_aside")
    for name in [name for name in os.environ if name.startswith("RUNFOLD_")]:
        monkeypatch.delenv(name)
    for name, value in world.environment.items():
        monkeypatch.setenv(f"RUNFOLD_{name.upper()}", str(value))
    monkeypatch.setenv("RUNFOLD_DATA", str(world.folder))
    place = f"{letter.partition}:{letter.offset}"
    assert await asyncio.to_thread(run, ["status"]) == 0
    assert f"set aside: partition {letter.partition}, offset {letter.offset}" in capfd.readouterr().out
    assert await asyncio.to_thread(run, ["replay", "verify"]) == 0
    assert await asyncio.to_thread(run, ["dead-letters", "retry", place, "--yes"]) == 0
    assert await world.of_store(lambda store: store.notes()) == []
    assert (await world.held()).digest == (await world.quiet()).digest


async def test_a_single_service_gets_past_a_record_that_kills(world: World) -> None:
    """Without workers it is whoever starts the service again that gets it past the record."""
    await world.write([*written(200), killer("run_killing"), *written(200, seed=8)])
    codes = [await (await world.serve("--until-end", program=KILLING)).ended() for _ in range(6)]
    assert codes == [-signal.SIGKILL] * 5 + [0]
    assert sum(sum(each.tally.values()) for each in await world.look()) == 401
