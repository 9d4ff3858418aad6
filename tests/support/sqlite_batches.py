"""SQLite stores for the tests of what befalls them: opened, filled with batches that write to every table, dumped."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import store_batches

from runfold.fold.changes import Changes
from runfold.store.digest import dump
from runfold.store.sqlite import SqliteStore


def batch(number: int, *, new: int = 30, old: dict[str, int] | None = None, body: int = 100) -> Changes:
    """The batch of all stores' tests, which here moves both partitions."""
    changes = store_batches.batch(number, new=new, old=old, body=body)
    changes.positions[1] = changes.positions[0]
    return changes


async def opened(path: Path, *, connection: type[sqlite3.Connection] = sqlite3.Connection) -> SqliteStore:
    store: SqliteStore = await store_batches.bound(SqliteStore(path, young=8, connection=connection))
    return store


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
