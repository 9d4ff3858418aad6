"""The SQLite store under faults: whatever breaks, and wherever, the store is as before or as after, and says what to do."""

# ruff: noqa: ASYNC240 - a test may wait for its own files

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runfold.fold.changes import Changes, JournalEntry, Letter, PositionChange, RunChange
from runfold.fold.usage import SUMS, BucketKey, Dimensions
from runfold.store import sqlite_schema
from runfold.store.digest import dump
from runfold.store.port import DoorChange, Lease, StoreBusy, StoreError, StoreRefused, StoreUnreachable
from runfold.store.sqlite import SqliteStore

FOLD = {"fold_version": 1, "compatible": (), "settings_hash": "s"}
NOBODY = 65534


def batch(number: int, *, new: int = 30, old: dict[str, int] | None = None, body: int = 100) -> Changes:
    """A batch that writes to every table: new rows, old rows that move to another thread, letters, journal, usage."""
    bucket = BucketKey(number + 1, Dimensions("gpt", f"asst_{number}"), 6)
    place = {"partition": 0, "offset": number, "timestamp": 1, "run_id": f"run_{number}_0"}
    handles = old or {}
    runs = [_run(f"run_{number}_{n}", bucket.dimensions, b"x" * body) for n in range(new)]
    runs += [
        _run(run_id, bucket.dimensions, b"y" * body)._replace(handle=handle, thread_id="moved", status=6)
        for run_id, handle in handles.items()
    ]
    return Changes(
        runs=runs,
        letters=[Letter(**place, reason="clock", detail="late", value=b"\xc1")],
        journal=[JournalEntry(**place, bucket=bucket, sums=(1,) * len(SUMS))],
        usage={bucket: [1] * len(SUMS), bucket._replace(minute=0): [1] * len(SUMS)},
        positions={p: PositionChange(number, number + 1, number, b"hash") for p in (0, 1)},
        tally={0: {"applied": new}},
    )


def _run(run_id: str, dimensions: Dimensions, body: bytes) -> RunChange:
    return RunChange(0, run_id, 0, f"thread_of_{run_id}", 1, 1000, 1, dimensions, None, None, body)


async def opened(path: Path, *, connection: type[sqlite3.Connection] = sqlite3.Connection) -> SqliteStore:
    store = SqliteStore(path, young=8, connection=connection)
    await store.open()
    await store.bind(cluster_id="c", topic="t", partitions=2, **FOLD)
    return store


async def claim(store: SqliteStore) -> dict[int, Lease]:
    return await store.claim("me", {0: 0, 1: 0}, lease=60)


async def dumped(store: SqliteStore) -> list[bytes]:
    """The dump, and what it leaves out but a transaction has to hold together too."""
    view = await store.snapshot()
    lines = [line async for line in dump(view)]
    await view.close()
    with sqlite3.connect(store.path) as database:
        for statement in (
            "select partition, outcome, count from tally",
            "select sum(young) - (select count(*) from run_key_young) from key_level where name = 'run_key'",
            "select count(*) - (select count(*) from run_key_young) - (select count(*) from run_key_settled) from run",
            "select count(*) - (select count(*) from thread_key_young) - (select count(*) from thread_key_settled) from run",
        ):
            lines += [repr(row).encode() for row in database.execute(statement)]
    database.close()
    return lines


class Failing(sqlite3.Connection):
    """Fails at the n-th statement, before it or after it is done; ``fail_at`` 0 never fails."""

    fail_at = 0
    afterwards = False
    count = 0

    def execute(self, *given: Any) -> sqlite3.Cursor:
        return self._counted(super().execute, given)

    def executemany(self, *given: Any) -> sqlite3.Cursor:
        return self._counted(super().executemany, given)

    def _counted(self, run: Callable[..., sqlite3.Cursor], given: tuple[Any, ...]) -> sqlite3.Cursor:
        kind = type(self)
        kind.count += 1
        if kind.count == kind.fail_at and not kind.afterwards:
            raise sqlite3.OperationalError("injected")
        cursor = run(*given)
        if kind.count == kind.fail_at:
            cursor.close()  # else the traceback keeps a statement under way
            raise sqlite3.OperationalError("injected")
        return cursor


@pytest.fixture
def failing() -> type[Failing]:
    return type("FailingHere", (Failing,), {})


async def a_step(store: SqliteStore) -> Callable[[], Any]:
    """The batch under test: second of its store, so that it updates rows and settles keys. Returns what applies it."""
    leases = await claim(store)
    handles = await store.apply(batch(0), leases)
    old = {run_id: handle for (_, run_id), handle in handles.items()}
    second = batch(1, old=old)
    return lambda: store.apply(second, leases)


async def a_door(store: SqliteStore) -> Callable[[], Any]:
    """A refold through the door that replaces a row, its letter and its journal entry."""
    await store.apply(batch(0), await claim(store))
    again = batch(0, new=1, body=50)
    change = DoorChange(
        partition=0,
        run_id="run_0_0",
        before=b"x" * 100,
        before_letters=[0],
        changes=Changes(runs=again.runs, letters=again.letters, usage=again.usage),
    )
    return lambda: store.write_through_door(change)


@pytest.mark.parametrize("afterwards", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("prepare", [a_step, a_door])
async def test_a_fault_at_any_statement_leaves_before_or_after(
    tmp_path: Path, failing: type[Failing], prepare: Callable[[SqliteStore], Any], afterwards: bool
) -> None:
    """For every n: failing at statement n leaves all or nothing, the store works on, and a restart shows the same."""
    template = tmp_path / "template.db"
    store = await opened(template)
    await prepare(store)
    before = await dumped(store)
    await store.close()
    after: list[bytes] | None = None
    failing.afterwards = afterwards
    point = 0
    while after is None:
        point += 1
        path = tmp_path / f"{point}.db"
        store = await opened(path, connection=failing)
        work = await prepare(store)
        failing.count, failing.fail_at = 0, point
        try:
            await work()
            after = await dumped(store)  # beyond the last statement: nothing failed
        except StoreUnreachable:
            failing.fail_at = 0
            left = await dumped(store)
            complete = left != before
            if not complete:
                await work()  # the same connection takes the same batch again
            whole = await dumped(store)
            await store.close()
            reopened = await opened(path)
            assert await dumped(reopened) == whole
            await reopened.close()
            outcomes = left if complete else whole
            path.with_suffix(".json").write_text(json.dumps([line.decode() for line in outcomes]))
        finally:
            failing.fail_at = 0
            await store.close()
    assert point > 10
    expected = json.dumps([line.decode() for line in after])
    assert [found.name for found in tmp_path.glob("*.json") if found.read_text() != expected] == []


async def test_a_fault_inside_a_statement_leaves_before(tmp_path: Path) -> None:
    """Interrupted in the middle of any statement's work, the batch is undone, and can be written again."""

    class Interrupted(sqlite3.Connection):
        steps = 0

    store = await opened(tmp_path / "store.db", connection=Interrupted)
    work = await a_step(store)
    before = await dumped(store)
    budget, interrupted = 20, 0
    database = store._lanes["write"]._db
    assert database is not None
    while True:
        left = iter(range(budget))
        database.set_progress_handler(lambda left=left: next(left, None) is None, 50)
        try:
            await work()
            break
        except StoreUnreachable:
            interrupted += 1
            database.set_progress_handler(None, 0)
            assert await dumped(store) == before
            budget = int(budget * 1.4)
    database.set_progress_handler(None, 0)
    assert interrupted > 5
    assert await dumped(store) != before
    await store.close()


async def test_a_full_disk_is_named_and_survived(tmp_path: Path) -> None:
    """On a full disk the batch is refused whole, the message says so, and with room it is written."""
    store = await opened(tmp_path / "store.db")
    leases = await claim(store)
    database = store._lanes["write"]._db
    assert database is not None
    database.execute(f"pragma max_page_count = {database.execute('pragma page_count').fetchone()[0] + 20}")
    before = await dumped(store)
    large = batch(0, new=500, body=2000)
    with pytest.raises(StoreUnreachable, match=r"RUNFOLD_STORE.*full"):
        await store.apply(large, leases)
    assert await dumped(store) == before
    database.execute("pragma max_page_count = 100000")
    await store.apply(large, leases)
    await store.close()


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of our own, and no right to write where permissions forbid it, which root always has."""
    folder = Path(tempfile.mkdtemp(prefix="runfold-"))
    was = os.geteuid()
    if was == 0:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        folder.chmod(0o700)
        os.seteuid(was)
        shutil.rmtree(folder)


async def test_a_read_only_file_is_named(unprivileged: Path) -> None:
    """A file that may not be written gives the setting and the remedy."""
    path = unprivileged / "store.db"
    await (await opened(path)).close()
    path.chmod(0o444)
    with pytest.raises(StoreUnreachable, match=r"RUNFOLD_STORE.*read-only"):
        await opened(path)


async def test_a_read_only_folder_is_named(unprivileged: Path) -> None:
    """A folder in which nothing can be made gives the setting and the remedy, also for the lock file."""
    unprivileged.chmod(0o555)
    with pytest.raises(StoreUnreachable, match=r"RUNFOLD_STORE.*writable"):
        await opened(unprivileged / "store.db")
    with pytest.raises(StoreUnreachable, match="RUNFOLD_STORE"), SqliteStore(unprivileged / "store.db").serve_lock():
        pass


async def test_a_missing_store_is_not_made_by_reading(tmp_path: Path) -> None:
    """Whoever only reads a store that is not there is told so, and leaves no file behind."""
    with pytest.raises(StoreUnreachable, match="RUNFOLD_STORE"):
        await SqliteStore(tmp_path / "store.db").open(write=False)
    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """A text file is not overwritten."""
    path = tmp_path / "store.db"
    path.write_text("these are my notes, and they are longer than a header\n" * 100)
    with pytest.raises(StoreRefused, match=r"RUNFOLD_STORE.*no SQLite database"):
        await opened(path)
    assert path.read_text().startswith("these are my notes")


async def test_the_database_of_another_application_is_refused(tmp_path: Path) -> None:
    """Our tables are not put among somebody else's."""
    path = tmp_path / "store.db"
    with sqlite3.connect(path) as database:
        database.execute("create table recipe (name text)")
    database.close()
    with pytest.raises(StoreRefused, match="another application"):
        await opened(path)


async def test_a_damaged_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """A store with broken pages names the rebuild."""
    path = tmp_path / "store.db"
    store = await opened(path)
    await store.apply(batch(0, new=500), await claim(store))
    await store.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * (size - 8192))
    with pytest.raises(StoreRefused, match="build a new store"):
        store = await opened(path)
        await store.load(0, ["run_0_1"])
    await store.close()


@pytest.mark.parametrize("write", [True, False])
async def test_a_newer_schema_is_refused(tmp_path: Path, write: bool) -> None:
    """A store that a newer runfold has migrated is left alone, by readers too."""
    path = tmp_path / "store.db"
    await (await opened(path)).close()
    with sqlite3.connect(path) as database:
        database.execute("pragma user_version = 99")
    database.close()
    with pytest.raises(StoreRefused, match=r"version 99.*newer runfold"):
        await SqliteStore(path).open(write=write)


async def test_an_older_schema_is_migrated_by_writers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer brings the tables forward and keeps every row; until then readers are told to wait for one."""
    path = tmp_path / "store.db"
    store = await opened(path)
    await store.apply(batch(0), await claim(store))
    before = await dumped(store)
    await store.close()
    newer = [*sqlite_schema.MIGRATIONS, ("alter table note add column author text",)]
    monkeypatch.setattr(sqlite_schema, "MIGRATIONS", newer)
    with pytest.raises(StoreUnreachable, match="runfold store migrate"):
        await SqliteStore(path).open(write=False)
    store = await opened(path)
    assert (await store.identity()).schema_version == len(newer)
    assert await dumped(store) == before
    await store.close()


async def test_a_failed_migration_leaves_the_old_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that fails half way is undone whole."""
    path = tmp_path / "store.db"
    await (await opened(path)).close()
    broken = [
        *sqlite_schema.MIGRATIONS,
        ("alter table note add column author text", "alter table nothing add column x"),
    ]
    with monkeypatch.context() as patched:
        patched.setattr(sqlite_schema, "MIGRATIONS", broken)
        with pytest.raises(StoreError):
            await opened(path)
    store = await opened(path)
    assert (await store.identity()).schema_version == 1
    await store.close()


async def test_a_store_of_another_log_is_refused(tmp_path: Path) -> None:
    """The store is told apart by the log's own id, also after a restart, and both logs are named."""
    await (await opened(tmp_path / "store.db")).close()
    store = SqliteStore(tmp_path / "store.db")
    await store.open()
    with pytest.raises(StoreRefused, match=r"\(c\).*\(other\)"):
        await store.bind(cluster_id="other", topic="t", partitions=2, **FOLD)
    await store.close()


HOLD = """
import sys, time
from runfold.store.sqlite import SqliteStore
with SqliteStore(sys.argv[1]).serve_lock():
    print("held", flush=True)
    time.sleep(60)
"""


def start(script: str, *given: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, given)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_second_server_is_told_the_first_ones_pid(tmp_path: Path) -> None:
    """Two processes never serve one store; once the first is dead, however it died, its lock file is no obstacle."""
    path = tmp_path / "store.db"
    with start(HOLD, path) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(StoreBusy, match=rf"process {first.pid}\b"), SqliteStore(path).serve_lock():
            pass
        first.kill()
    with SqliteStore(path).serve_lock():
        assert (tmp_path / "store.db.lock").read_text() == f"{os.getpid()}\n"


WRITE = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_store_faults as faults

async def main():
    store = await faults.opened(Path(sys.argv[2]))
    leases = await faults.claim(store)
    print("ready", flush=True)
    handles = {}
    for number in range(leases[0].position, 1_000_000):
        handles = await store.apply(faults.batch(number, new=200, old={r: h for (_, r), h in handles.items()}), leases)

asyncio.run(main())
"""


async def test_killed_at_any_instant_no_batch_is_half_written(tmp_path: Path) -> None:
    """A writer killed with SIGKILL while it writes leaves whole batches: rows, letters, usage and position agree."""
    path = tmp_path / "store.db"
    for attempt in range(8):
        with start(WRITE, Path(__file__).parent, path) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            await asyncio.sleep(0.05 + 0.013 * attempt)  # the instant is the point of the test
            writer.send_signal(signal.SIGKILL)
        store = await opened(path)
        view = await store.snapshot()
        position = (await view.positions())[0]
        rows = [row for _, row in view.scan_runs()]
        assert len(rows) == 200 * position
        assert len(list(view.letters(0))) == len(list(view.journal(0))) == position
        assert sum(row.sums[0] for row in await store.usage()) == 2 * position
        assert (await dumped(store))[-3:] == [b"(0,)"] * 3
        await view.close()
        await store.close()
    assert position > 0
