"""The SQLite store under faults of its file: full, read-only, missing, damaged or another's, it says what to do."""

# ruff: noqa: ASYNC240 - a test may wait for its own files

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlite_batches import batch, dumped, opened
from store_batches import FOLD, claim

from runfold.store import sqlite_schema
from runfold.store.port import StoreError, StoreRefused, StoreUnreachable
from runfold.store.sqlite import SqliteStore
from runfold.store.sqlite_connection import MAKE
from runfold.store.sqlite_lane import Lane
from runfold.store.sqlite_links import place_of

NOBODY = 65534


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


async def test_a_store_of_the_first_schema_is_served_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that the first version made and filled keeps its rows, leases and positions, and learns what is new."""
    path = tmp_path / "store.db"
    with monkeypatch.context() as first:
        first.setattr(sqlite_schema, "MIGRATIONS", sqlite_schema.MIGRATIONS[:1])
        lane = Lane(place_of(path), mode=MAKE)
        await lane.open()
        await lane.run(sqlite_schema.migrate, path)
        await lane.run(
            lambda db: db.execute("insert into position values (0, 5, 3, 'old', 1, 0, 4, x'00', null)").rowcount
        )
        await lane.close()
    store = await opened(path)
    lease = (await store.claim("new", {0: 0, 1: 0}, lease=60))[0]
    assert (lease.position, lease.epoch, lease.taken_from, lease.history.takeovers) == (5, 4, "old", 1)
    assert (await store.workers(), await store.lost_ranges(), await store.growths()) == ([], [], [])
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
    assert (await store.identity()).schema_version == len(sqlite_schema.MIGRATIONS)
    await store.close()


async def test_a_store_of_another_log_is_refused(tmp_path: Path) -> None:
    """The store is told apart by the log's own id, also after a restart, and both logs are named."""
    await (await opened(tmp_path / "store.db")).close()
    store = SqliteStore(tmp_path / "store.db")
    await store.open()
    with pytest.raises(StoreRefused, match=r"\(c\).*\(other\)"):
        await store.bind(cluster_id="other", topic="t", partitions=2, **FOLD)
    await store.close()
