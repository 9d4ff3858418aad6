"""What befalls the store of a serving process: full, locked, read-only, written through the door. Nothing is lost."""

# ruff: noqa: ASYNC240 - a test may wait for its own files

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pytest
from serving import Serving, fill, fold_quietly, messages, serving, settings_of, stored, traffic

from runfold import wiring
from runfold.fold.batch import row_of
from runfold.fold.changes import Changes
from runfold.fold.state import decode_state
from runfold.store.port import DoorChange, StalePosition, StoreUnreachable
from runfold.store.sqlite import SqliteStore

NOBODY = 65534

pytestmark = pytest.mark.usefixtures("collector")


class Quota(sqlite3.Connection):
    """A connection whose file may not grow beyond a number of pages, as on a full disk."""

    opened: ClassVar[list[Quota]]

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.opened.append(self)

    @classmethod
    def allow(cls, more: int) -> None:
        """Let the writer's file grow by so many pages from now on."""
        (pages,) = cls.opened[0].execute("pragma page_count").fetchone()
        cls.opened[0].execute(f"pragma max_page_count = {pages + more}")


@pytest.fixture
def quota() -> type[Quota]:
    return type("QuotaHere", (Quota,), {"opened": []})


async def test_a_full_disk_and_room_again(tmp_path: Path, quota: type[Quota]) -> None:
    """While the store is full nothing is committed; with room again the service goes on, and nothing was lost."""
    written = messages(traffic(2_000))
    await fill(tmp_path, written[:10])
    store = SqliteStore(tmp_path / "runfold.db", connection=quota)
    async with serving(tmp_path, store=store) as service:
        await service.folded(10)
        quota.allow(2)
        await fill(tmp_path, written[10:])
        line = await service.said("batch_dropped", times=3)
        assert "full" in line["reason"]
        quota.allow(100_000)
        await service.folded(2_000)
        await service.end()
    assert await stored(tmp_path) == await fold_quietly(tmp_path)


async def test_a_disk_full_beyond_patience(tmp_path: Path, quota: type[Quota]) -> None:
    """A store that stays full for longer than RUNFOLD_PATIENCE ends the service, which says what is full."""
    written = messages(traffic(2_000))
    await fill(tmp_path, written[:10])
    store = SqliteStore(tmp_path / "runfold.db", connection=quota)
    async with serving(tmp_path, store=store, patience=0.3) as service:
        await service.folded(10)
        quota.allow(2)
        await fill(tmp_path, written[10:])
        failure = await service.failure()
    assert isinstance(failure, StoreUnreachable)
    assert "full" in str(failure)
    async with serving(tmp_path, until_end=True) as service:
        assert await service.failure() is None
    assert await stored(tmp_path) == await fold_quietly(tmp_path)


async def test_a_stop_while_the_disk_is_full(tmp_path: Path, quota: type[Quota]) -> None:
    """A service that waits for room stops at once when told to, and leaves nothing half written."""
    written = messages(traffic(2_000))
    await fill(tmp_path, written[:10])
    store = SqliteStore(tmp_path / "runfold.db", connection=quota)
    async with serving(tmp_path, store=store) as service:
        await service.folded(10)
        quota.allow(2)
        await fill(tmp_path, written[10:])
        await service.said("batch_dropped", times=8)
        async with asyncio.timeout(2):
            await service.end()
    assert (await stored(tmp_path)).records == 10


async def test_a_store_locked_by_somebody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that another program keeps locked is borne with, and folded into once it is free."""
    monkeypatch.setattr("runfold.store.sqlite_connection.BUSY_SECONDS", 0.05)
    written = messages(traffic(200))
    await fill(tmp_path, written[:100])
    async with serving(tmp_path) as service:
        await service.folded(100)
        with closing(sqlite3.connect(tmp_path / "runfold.db", isolation_level=None)) as other:
            other.execute("begin immediate")
            await fill(tmp_path, written[100:])
            line = await service.said("batch_dropped", times=2)
            assert "locked" in line["reason"]
            other.execute("rollback")
        await service.folded(200)
        await service.end()
    assert await stored(tmp_path) == await fold_quietly(tmp_path)


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder for a user who is not root, for whom nothing is read-only."""
    folder = Path(tempfile.mkdtemp(prefix="runfold-"))
    was = os.geteuid()
    folder.chmod(0o755)
    yield folder
    os.seteuid(was)
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("kept", [True, False], ids=["with the lock file", "without"])
async def test_a_read_only_store(unprivileged: Path, kept: bool) -> None:
    """A store that this user may not write ends the service at once, with the setting and the remedy."""
    await fill(unprivileged, messages(traffic(10)))
    async with serving(unprivileged, until_end=True) as service:
        assert await service.failure() is None
    lock = unprivileged / "runfold.db.lock"
    lock.chmod(0o666)
    if not kept:
        lock.unlink()
    (unprivileged / "runfold.db").chmod(0o444)
    unprivileged.chmod(0o555)
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
    async with serving(unprivileged) as service:
        failure = await service.failure()
    assert isinstance(failure, StoreUnreachable)
    assert "RUNFOLD_STORE" in str(failure)


async def write_through_door(folder: Path, run_id: str, *, body: bytes | None = None) -> None:
    """What a retry does: write a run's row anew, unchanged, from outside."""
    store = wiring.open_store(settings_of(folder))
    await store.open()
    try:
        (row,) = await store.find_run(run_id)
        changes = Changes(runs=[row_of(row.partition, row.handle, decode_state(row.body))])
        before = row.body if body is None else body
        # The generation that writes is the log's and fold's own, as bound by the service.
        store._stamp.fold = 1  # type: ignore[attr-defined]
        await store.write_through_door(
            DoorChange(partition=row.partition, run_id=run_id, before=before, before_letters=(), changes=changes)
        )
    finally:
        await store.close()


async def test_a_write_through_the_door(tmp_path: Path) -> None:
    """After somebody else wrote a run, the owner drops what it holds and goes on by itself, with the same outcome."""
    events = traffic(300, open_runs=20)
    written = messages(events)
    await fill(tmp_path, written[:100])
    async with serving(tmp_path) as service:
        await service.folded(100)
        for step in range(4):
            await write_through_door(tmp_path, events[step].run_id)
            begin = 100 + 50 * step
            await fill(tmp_path, written[begin : begin + 50])
            await service.folded(begin + 50)
        assert service.events("batch_dropped")
        await service.end()
    assert await stored(tmp_path) == await fold_quietly(tmp_path)


async def test_a_door_under_an_idle_owner(tmp_path: Path) -> None:
    """An owner with nothing to fold finds by its timer that its epoch has passed, and takes the partitions again."""
    events = traffic(30)
    await fill(tmp_path, messages(events))
    async with serving(tmp_path, lease=1) as service:
        await service.folded(30)
        await write_through_door(tmp_path, events[0].run_id)
        await service.said("leases_lost")
        await service.said("partitions_taken", times=2)
        await service.end()
    assert await stored(tmp_path) == await fold_quietly(tmp_path)


async def test_a_door_that_comes_too_late(tmp_path: Path) -> None:
    """A write through the door that rests on an older row is refused, and the service takes no notice."""
    events = traffic(30)
    await fill(tmp_path, messages(events))
    async with serving(tmp_path) as service:
        await service.folded(30)
        with pytest.raises(StalePosition):
            await write_through_door(tmp_path, events[0].run_id, body=b"older")
        await _more(service, tmp_path)
    assert not service.events("batch_dropped")


async def _more(service: Serving, folder: Path) -> None:
    await fill(folder, messages(traffic(20, seed=9)))
    await service.folded(50)
    await service.end()
