"""The SQLite store under faults of statements: whichever fails, and wherever, the store is as before or as after."""

# ruff: noqa: ASYNC240 - a test may wait for its own files

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlite_batches import batch, dumped, opened
from store_batches import claim

from runfold.fold.changes import Changes
from runfold.store.port import DoorChange, StoreUnreachable
from runfold.store.sqlite import SqliteStore


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
