"""A store that is filled by large batches copies its write-ahead log into its file after each, and is as safe as any."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

from sqlite_batches import batch, dumped
from store_batches import bound, claim

from runfold.store import sqlite
from runfold.store.port import Lease, StoreUnreachable
from runfold.store.sqlite import SqliteStore


class Watched(sqlite3.Connection):
    """Counts checkpoints; while ``full`` they fail as on a full disk."""

    checkpoints = 0
    full = False

    def execute(self, statement: str, *given: Any) -> sqlite3.Cursor:
        if "wal_checkpoint" in statement:
            type(self).checkpoints += 1
            if type(self).full:
                raise sqlite3.OperationalError("database or disk is full")
        return super().execute(statement, *given)


@pytest.fixture
def watched() -> type[Watched]:
    return type("WatchedHere", (Watched,), {})


@pytest.fixture
async def store(tmp_path: Path, watched: type[Watched]) -> AsyncIterator[SqliteStore]:
    """A store that is filled in turns."""
    made: SqliteStore = await bound(SqliteStore(tmp_path / "store.db", turn=tmp_path / "turn", connection=watched))
    yield made
    watched.full = False
    await made.close()


async def fill(store: SqliteStore, batches: range) -> None:
    leases = await claim(store)
    for number in batches:
        await store.apply(batch(number, new=500, body=1_000), leases)
    await checkpointed(store)


async def checkpointed(store: SqliteStore) -> dict[int, Lease]:
    """Leases that were taken when the checkpoint after the last batch, if there is one, was over."""
    await asyncio.sleep(0)  # it begins
    return await claim(store)


async def test_the_log_begins_anew_after_each_batch(store: SqliteStore, watched: type[Watched]) -> None:
    """Each batch is copied into the file, so that the write-ahead log gets no longer than a few of them."""
    await fill(store, range(20))
    wal = store.path.with_name("store.db-wal").stat().st_size
    await store.close()
    assert watched.checkpoints == 20
    assert store.path.stat().st_size > 20 * 500 * 1_000 > 5 * wal


async def test_a_store_that_is_served_leaves_it_to_sqlite(tmp_path: Path, watched: type[Watched]) -> None:
    """Who serves commits small batches, of which none is worth a checkpoint."""
    served: SqliteStore = await bound(SqliteStore(tmp_path / "store.db", connection=watched))
    await fill(served, range(3))
    await served.close()
    assert watched.checkpoints == 0


async def test_a_checkpoint_that_fails_is_told_with_the_next_batch(store: SqliteStore, watched: type[Watched]) -> None:
    """What was committed stands; the next batch is refused with what the disk said, and nothing of it is written."""
    await store.apply(batch(0), await claim(store))
    leases = await checkpointed(store)
    before = await dumped(store)
    watched.full = True
    await store.apply(batch(1), leases)
    with pytest.raises(StoreUnreachable, match="full"):
        await store.apply(batch(2), leases)
    assert (await store.partitions())[0].position == 2
    watched.full = False
    await store.apply(batch(2), leases)
    assert (await store.partitions())[0].position == 3
    assert len(await dumped(store)) > len(before)


async def test_closing_after_a_checkpoint_that_failed(store: SqliteStore, watched: type[Watched]) -> None:
    """What is committed stands in the write-ahead log as well: closing says nothing, and it is there afterwards."""
    watched.full = True
    await fill(store, range(1))
    await store.close()
    await store.open()
    assert (await store.partitions())[0].position == 1


async def test_while_a_reader_looks_on_the_log_grows_and_begins_anew_later(
    store: SqliteStore, watched: type[Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that has become too long is copied once more before a batch, when nobody else writes, and then begins anew."""
    monkeypatch.setattr(sqlite, "LONGEST", 1_000)  # several batches
    view = await store.snapshot()
    await fill(store, range(20))
    grown = store.path.with_name("store.db-wal").stat().st_size
    await view.close()
    before = watched.checkpoints
    await fill(store, range(20, 60))
    assert store.path.with_name("store.db-wal").stat().st_size < 1.1 * grown
    assert watched.checkpoints == before + 40 + 1
