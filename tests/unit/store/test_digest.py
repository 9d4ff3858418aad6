"""The digest finds what verify has to find, and nothing that two right stores may differ in."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from runfold.fold.changes import Changes, JournalEntry, Letter, PositionChange, RunChange
from runfold.fold.usage import SUMS, BucketKey, Dimensions
from runfold.store.difference import Difference, first_difference, first_usage_difference
from runfold.store.digest import StoreDigest, digest, dump
from runfold.store.port import Note
from runfold.store.sqlite import SqliteStore

GPT = Dimensions("gpt-4o", "asst_1")
O3 = Dimensions("o3")


def a_run(number: int, partition: int, handle: int = 0) -> RunChange:
    body = msgspec.msgpack.encode([f"run_{number}", "text", number, None])
    dimensions = GPT if number % 2 else O3
    return RunChange(partition, f"run_{number}", handle, "thread", 6, number, 0, dimensions, 7, 8, body)


def batch(partition: int, *, backwards: bool = False) -> Changes:
    bucket = BucketKey(7, GPT, 6)
    place = {"partition": partition, "offset": 3, "timestamp": 1}
    runs = [a_run(number, partition) for number in range(20)]
    return Changes(
        runs=runs[::-1] if backwards else runs,
        letters=[Letter(**place, reason="clock", detail="late", run_id="run_1", key=b"run_1", value=b"\xc1")],
        journal=[JournalEntry(**place, run_id="run_1", bucket=bucket, sums=(1,) * len(SUMS))],
        usage={bucket._replace(minute=7 + partition): [1] * len(SUMS)},
        positions={partition: PositionChange(0, 20, 19, b"hash")},
        tally={partition: {"applied": 20}},
    )


async def filled(path: Path, *changes: Changes) -> SqliteStore:
    store = SqliteStore(path, young=4)
    await store.open()
    fold = {"fold_version": 1, "compatible": (), "settings_hash": "s"}
    await store.bind(cluster_id="c", topic="t", partitions=2, **fold)
    leases = await store.claim("me", {0: 0, 1: 0}, lease=60)
    for each in changes:
        await store.apply(each, leases)
    return store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await filled(tmp_path / "one.db", batch(0), batch(1))
    yield store
    await store.close()


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    other = await filled(tmp_path / "other.db", batch(0), batch(1))
    yield other
    await other.close()


async def digest_of(store: SqliteStore) -> StoreDigest:
    view = await store.snapshot()
    try:
        return await digest(view)
    finally:
        await view.close()


async def differences(store: SqliteStore, other: SqliteStore) -> list[Difference | None]:
    views = await store.snapshot(), await other.snapshot()
    try:
        of_partitions = [await first_difference(*views, partition=partition) for partition in (0, 1)]
        return [*of_partitions, await first_usage_difference(*views)]
    finally:
        for view in views:
            await view.close()


def spoil(store: SqliteStore, statement: str, *values: object) -> None:
    database = sqlite3.connect(store.path)
    assert database.execute(statement, values).rowcount == 1
    database.commit()
    database.close()


def flipped(body: bytes, bit: int) -> bytes:
    return (int.from_bytes(body, "big") ^ (1 << bit)).to_bytes(len(body), "big")


async def test_the_order_of_writing_does_not_matter(store: SqliteStore, tmp_path: Path) -> None:
    """Other row numbers, other keys, other batches: the same content has the same digest and the same dump."""
    again = await filled(tmp_path / "again.db", batch(1, backwards=True), batch(0, backwards=True))
    assert await digest_of(again) == await digest_of(store)
    assert await differences(store, again) == [None] * 3
    await again.close()


async def test_what_is_left_out_is_left_out(store: SqliteStore) -> None:
    """Leases, epochs, notes, tallies, first offsets and the fold's generation do not change the digest."""
    before = await digest_of(store)
    await store.claim("you", {0: 0}, lease=60)
    await store.claim("me", {0: 0}, lease=60)
    await store.add_note(Note(partition=0, offset=3, kind="discard", reason="spam", noted_at=1))
    await store.bind(cluster_id="c", topic="t", partitions=2, fold_version=2, compatible=(1,), settings_hash="s")
    spoil(store, "update tally set count = count + 1 where partition = 0")
    spoil(store, "update position set first_offset = 5, committed_at = 5, last_hash = x'00' where partition = 1")
    assert await digest_of(store) == before


@pytest.mark.parametrize("bit", range(0, 88, 7))
async def test_one_flipped_bit_in_a_body_is_found(store: SqliteStore, other: SqliteStore, bit: int) -> None:
    """Wherever in a run's body the bit is, its partition's digest differs, and the run is named."""
    body = a_run(13, 1).body
    spoil(store, "update run set body = ? where run_id = 'run_13' and partition = 1", flipped(body, bit))
    one, two = await digest_of(store), await digest_of(other)
    assert one.partitions[1] != two.partitions[1]
    assert (one.partitions[0], one.usage) == (two.partitions[0], two.usage)
    found = (await differences(store, other))[1]
    assert found is not None
    assert (found.table, found.key) == ("run", "run_13")
    assert (found.field or "").startswith("body")


async def test_the_field_inside_a_body_is_named(store: SqliteStore, other: SqliteStore) -> None:
    """A body that still reads as a list of fields shows which of them differs."""
    changed = msgspec.msgpack.encode(["run_13", "text", 14, None])
    spoil(store, "update run set body = ? where run_id = 'run_13' and partition = 1", changed)
    expected = Difference(table="run", key="run_13", field="body[2]", left=14, right=13)
    assert (await differences(store, other))[1] == expected


COLUMNS = {
    "thread_id": "'other'",
    "status": "status + 1",
    "created_at": "created_at + 1",
    "flags": "flags + 1",
    "minute": "minute + 1",
    "final_timestamp": "null",
    "run_id": "run_id || 'x'",
    "dimension": "3 - dimension",
}


@pytest.mark.parametrize("column", COLUMNS)
async def test_one_changed_column_is_found(store: SqliteStore, other: SqliteStore, column: str) -> None:
    """Every column of a run's row that people can read is covered."""
    spoil(store, f"update run set {column} = {COLUMNS[column]} where run_id = 'run_13' and partition = 1")
    assert (await digest_of(store)).partitions[1] != (await digest_of(other)).partitions[1]
    found = (await differences(store, other))[1]
    assert found is not None
    assert found.field == {"run_id": None, "dimension": "model"}.get(column, column)


MISSING = "delete from run where run_id = 'run_7' and partition = 0"
ONE_MORE = """insert into run select 999, 'run_70', partition, thread_id, status, created_at, flags, dimension, minute,
    final_timestamp, fold, body from run where run_id = 'run_7' and partition = 0"""
TWICE = ONE_MORE.replace("'run_70'", "'run_7'")
SPOILT: list[tuple[str, int, str, object]] = [
    (MISSING, 0, "run", "run_7"),
    (ONE_MORE, 0, "run", "run_70"),
    (TWICE, 0, "run", "run_7"),
    ("update position set next = next + 1 where partition = 1", 1, "position", 1),
    ("update letter set detail = 'soon' where partition = 0", 0, "letter", 3),
    ("update letter set value = x'c2' where partition = 0", 0, "letter", 3),
    ("delete from letter where partition = 0", 0, "letter", 3),
    ("update journal set total_tokens = total_tokens + 1 where partition = 0", 0, "journal", (3, 0)),
    ("delete from journal where partition = 0", 0, "journal", (3, 0)),
    ("update usage set total_tokens = total_tokens + 1 where minute = 8", 2, "usage", (8, *GPT, 6)),
    ("update usage set minute = 9 where minute = 8", 2, "usage", (8, *GPT, 6)),
    ("delete from usage where minute = 8", 2, "usage", (8, *GPT, 6)),
]


@pytest.mark.parametrize(("statement", "place", "table", "key"), SPOILT)
async def test_one_wrong_row_is_found(
    store: SqliteStore, other: SqliteStore, statement: str, place: int, table: str, key: object
) -> None:
    """One row too few, one too many, one number off by one: only its own digest differs, and the row is named."""
    spoil(store, statement)
    one, two = await digest_of(store), await digest_of(other)
    wrong = [one.partitions[0] != two.partitions[0], one.partitions[1] != two.partitions[1], one.usage != two.usage]
    assert wrong == [number == place for number in range(3)]
    found = await differences(store, other)
    assert [(each.table, each.key) for each in found if each] == [(table, key)]


async def test_a_dump_can_be_read_line_by_line(store: SqliteStore) -> None:
    """Every line of a dump is one JSON object that names its table; a hundred rows give a hundred lines."""
    view = await store.snapshot()
    lines = [msgspec.json.decode(line) async for line in dump(view)]
    await view.close()
    count: Callable[[str], int] = [line["table"] for line in lines].count
    assert [count(table) for table in ("position", "run", "letter", "journal", "usage")] == [2, 40, 2, 2, 2]
