"""What only the SQLite store has: keys in two levels, queries that do not grow, a write-ahead log that nobody pins."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from runfold.fold.changes import Changes, PositionChange, RunChange
from runfold.fold.usage import Dimensions
from runfold.store import sqlite_keys, sqlite_lists, sqlite_writes
from runfold.store.port import Lease, RunFilter
from runfold.store.sqlite import SqliteStore
from runfold_schemas import RunStatus

FOLD = {"fold_version": 1, "compatible": (), "settings_hash": "s"}
LOG = {"cluster_id": "c", "topic": "t", "partitions": 1}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "store.db", young=50)
    await store.open()
    await store.bind(**LOG, **FOLD)
    yield store
    await store.close()


def run(number: int, **changed: Any) -> RunChange:
    status = RunStatus.COMPLETED if number % 10 else RunStatus.QUEUED
    row = RunChange(
        0, f"run_{number}", 0, f"thread_{number % 5}", status, number, 0, Dimensions(), None, None, b"x" * 500
    )
    return row._replace(**changed)


async def put(store: SqliteStore, *runs: RunChange) -> dict[int, Lease]:
    leases = await store.claim("me", {0: 0}, lease=60)
    begin = leases[0].position
    moves = {0: PositionChange(begin, begin + 1, begin, b"h")}
    await store.apply(Changes(runs=list(runs), positions=moves), leases)
    return leases


def ask(store: SqliteStore, statement: str) -> Any:
    database = sqlite3.connect(store.path)
    try:
        return database.execute(statement).fetchone()[0]
    finally:
        database.close()


async def test_young_keys_stay_few(store: SqliteStore) -> None:
    """However many runs come, in batches of any size, few keys are young and none is lost."""
    number = 0
    for size in (1, 7, 300, 2, 60, 1, 500, 3, 90):
        await put(store, *(run(n) for n in range(number, number + size)))
        number += size
        assert ask(store, "select count(*) from run_key_young") <= 51
        assert ask(store, "select count(*) from thread_key_young") <= 51
    names = [f"run_{n}" for n in range(number)]
    assert set(await store.load(0, names)) == set(names)
    assert ask(store, "select young from key_level where name = 'run_key'") == ask(
        store, "select count(*) from run_key_young"
    )


async def test_ids_that_share_a_hash_are_told_apart(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key only says where to look: with three hashes for hundreds of ids every answer is still right."""
    for module in (sqlite_keys, sqlite_lists, sqlite_writes):
        monkeypatch.setattr(module, "key_hash", lambda text: len(text) % 3)
    for module in (sqlite_keys, sqlite_writes):
        monkeypatch.setattr(module, "key_hashes", lambda texts: [len(text) % 3 for text in texts])
    await put(store, *(run(number) for number in range(200)))
    wanted = [f"run_{number}" for number in range(0, 400, 7)]
    assert set(await store.load(0, wanted)) == {f"run_{number}" for number in range(0, 200, 7)}
    assert [row.run_id for row in await store.find_run("run_7")] == ["run_7"]
    thread = await store.list_runs(RunFilter(thread_id="thread_3", limit=100))
    assert [row.run_id for row in thread] == [f"run_{number}" for number in range(198, 0, -5)]
    assert (await store.count_runs())["split"] == 0


@pytest.mark.parametrize(
    "wanted",
    [
        RunFilter(),
        RunFilter(after=(150, "run_150")),
        RunFilter(status=RunStatus.QUEUED),
        RunFilter(thread_id="thread_3"),
        RunFilter(thread_id="thread_3", after=(150, "run_150")),
        RunFilter(thread_id="thread_3", ascending=True, after=(250, "run_250")),
        RunFilter(thread_id="thread_3", ascending=True, after=(150, "run_150"), before=(350, "run_350")),
        RunFilter(thread_id="thread_3", project_id=""),
        RunFilter(flagged=True),
    ],
    ids=str,
)
async def test_lists_cost_the_same_in_a_large_store(store: SqliteStore, wanted: RunFilter) -> None:
    """A page of 20 takes SQLite as many steps among 4,200 runs as among 400."""
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    await store.list_runs(wanted)  # opens a reader where it takes one
    reader = store._lanes["glance"] if wanted.thread_id else next(iter(store._read()._opened))
    database = reader._db
    assert database is not None

    async def cost() -> int:
        nonlocal steps
        steps = 0
        database.set_progress_handler(step, 1)
        await store.list_runs(wanted)
        database.set_progress_handler(None, 0)
        return steps

    await put(store, *(run(number, flags=number % 2) for number in range(400)))
    small = await cost()
    for begin in range(400, 4200, 950):
        await put(store, *(run(number, flags=number % 2) for number in range(begin, begin + 950)))
    assert await cost() < 1.3 * small


async def test_reads_that_were_given_up_pin_nothing(store: SqliteStore) -> None:
    """After any number of cancelled reads the write-ahead log can be checkpointed whole and cut to nothing."""
    await put(store, *(run(number) for number in range(2000)))
    for turn in range(30):
        reading = asyncio.ensure_future(store.list_runs(RunFilter(limit=2000)))
        for _ in range(turn % 3):
            await asyncio.sleep(0)
        reading.cancel()
    await put(store, run(5000))
    await store.count_runs()  # stands behind all of them
    busy = ask(store, "pragma wal_checkpoint(truncate)")
    assert busy == 0
    assert store.path.with_name("store.db-wal").stat().st_size == 0


async def test_what_was_opened_for_a_reader_who_left_serves_the_next(tmp_path: Path) -> None:
    """A reader who is cancelled while a connection is made for it leaves none behind that nobody closes."""
    made: list[sqlite3.Connection] = []

    class Counted(sqlite3.Connection):
        def __init__(self, *given: Any, **options: Any) -> None:
            super().__init__(*given, **options)
            made.append(self)

    store = SqliteStore(tmp_path / "store.db", connection=Counted)
    await store.open()
    before = len(made)
    leaving = asyncio.ensure_future(store.list_runs(RunFilter()))
    await asyncio.sleep(0)  # it has asked for its connection
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await store.list_runs(RunFilter())
    await store.close()
    assert len(made) == before + 1


async def test_a_reader_beside_the_writer_sees_what_is_committed(store: SqliteStore) -> None:
    """Another process opens the store only to read, sees every commit, and cannot write."""
    reader = SqliteStore(store.path)
    await reader.open(write=False)
    await put(store, run(1))
    assert [row.run_id for row in await reader.list_runs(RunFilter())] == ["run_1"]
    with pytest.raises(RuntimeError, match="not open to write"):
        await reader.claim("me", {0: 0}, lease=1)
    await reader.close()


async def test_a_closed_store_leaves_one_file(store: SqliteStore) -> None:
    """The write-ahead log is folded into the file when the store is closed, so that the file can be copied."""
    await put(store, run(1))
    await store.close()
    assert [path.name for path in store.path.parent.iterdir()] == ["store.db"]


async def test_rows_name_the_fold_that_wrote_them(store: SqliteStore) -> None:
    """Each row carries the version and settings of the fold that wrote it last."""
    await put(store, run(1), run(2))
    await store.bind(**LOG, fold_version=2, compatible=(1,), settings_hash="s")
    handle = (await store.load(0, ["run_1"]))["run_1"].handle
    await put(store, run(1, handle=handle), run(3))
    database = sqlite3.connect(store.path)
    rows = database.execute("select run_id, fold_version from run join generation on generation.n = fold order by 1")
    assert rows.fetchall() == [("run_1", 2), ("run_2", 1), ("run_3", 2)]
    database.close()


async def test_many_dimensions_are_looked_up(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where more dimensions are in use than are kept in memory, each still has one key."""
    monkeypatch.setattr("runfold.store.sqlite_stamp._MOST", 3)
    for number in range(3):
        await put(store, *(run(10 * number + n, dimensions=Dimensions(f"model_{n}")) for n in range(8)))
    assert ask(store, "select count(*) from dimension") == 8
    assert len(await store.list_runs(RunFilter(model="model_7"))) == 3
