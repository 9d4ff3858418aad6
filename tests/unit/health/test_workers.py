"""Several processes as one: what a parent serves is the sum of its children, and nothing of those that are gone."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from probing import Probe, code
from serving import Server, fill, messages, server, settings_of, traffic

from runfold.health import verdict
from runfold.health.listening import HealthServer
from runfold.health.workers import Workers
from runfold.telemetry import get_logger


@pytest.fixture
def workers() -> Iterator[Workers]:
    with Workers() as made:
        yield made


@pytest.fixture
def probe(workers: Workers, tmp_path: Path) -> Iterator[Probe]:
    """Asks what the parent serves."""
    served = HealthServer(settings_of(tmp_path, health="127.0.0.1:0"), workers, get_logger())
    yield Probe(f"127.0.0.1:{served.port}")
    served.close()


@asynccontextmanager
async def two(workers: Workers, tmp_path: Path) -> AsyncIterator[list[Server]]:
    """Two services with their metrics in the parent's folder, each on a log and a store of its own, all of it folded."""
    async with AsyncExitStack() as stack:
        children = []
        for number, records in enumerate((300, 200)):
            folder = tmp_path / str(number)
            await fill(folder, messages(traffic(records, seed=number)))
            child = await stack.enter_async_context(server(folder))
            child._environment |= workers.environment
            await child.start()
            await child.said("batch_committed")
            children.append(child)
        yield children


async def end(child: Server, workers: Workers) -> None:
    await child.stop(signal.SIGKILL)
    workers.ended(child.pid)


async def test_counts_of_children_add_up(workers: Workers, probe: Probe, tmp_path: Path) -> None:
    """Events are counted over all children, also over those that were killed; what is theirs now goes with them."""
    async with two(workers, tmp_path) as children:
        await probe.until("/readyz", code(200))
        both = await probe.metrics()
        await end(children[0], workers)
        await probe.until("/readyz", code(200))
        one = await probe.metrics()
    assert both.one("events_total", "applied") == one.one("events_total", "applied") == 500
    assert both.all("partitions_owned") == {(str(child.pid),): 3 for child in children}
    assert one.all("partitions_owned") == {(str(children[1].pid),): 3}
    assert one.one("batch_records_sum") == 500


async def test_no_children_are_not_well(probe: Probe) -> None:
    """A parent without a living child is neither healthy nor ready."""
    assert [(await probe.ask(path)).code for path in ("/healthz", "/readyz")] == [503, 503]


async def test_one_child_that_hangs_is_named(
    workers: Workers, probe: Probe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that is frozen as a whole cannot say so: it is found by its silence, by pid, and is well when it wakes."""
    monkeypatch.setattr(verdict, "SILENT_SECONDS", 3.0)
    async with two(workers, tmp_path) as children:
        await probe.until("/readyz", code(200))
        os.kill(children[1].pid, signal.SIGSTOP)
        hung = await probe.until("/healthz", code(503), within=30)
        os.kill(children[1].pid, signal.SIGCONT)
        await probe.until("/healthz", code(200), within=30)
    assert [reason["pid"] for reason in hung.json["reasons"]] == [children[1].pid]


async def test_children_do_not_listen(workers: Workers, tmp_path: Path) -> None:
    """A child leaves listening to its parent."""
    async with two(workers, tmp_path) as children:
        await asyncio.gather(*(child.stop() for child in children))
    assert not any(child.events("health_listening") for child in children)


async def test_a_file_that_is_just_being_made_is_left_out(workers: Workers, probe: Probe) -> None:
    """A child's file that is still empty breaks no answer."""
    (workers.folder / "counter_1.db").touch()
    assert (await probe.ask("/metrics")).code == 200


def test_the_folder_goes_with_the_parent() -> None:
    """The folder of the children's metrics is there while the parent is, and not after."""
    with Workers() as made:
        assert made.folder.is_dir()
    assert not made.folder.exists()
