"""What a PostgreSQL store meets before its first batch: schemas of others, old and new versions, roles, wrong addresses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from store_batches import batch, bound, claim, dumped

from runfold.store import postgres_schema
from runfold.store.port import Note, RunFilter, StoreError, StoreRefused, StoreUnreachable
from runfold.store.postgres import PostgresStore
from runfold.store.postgres_connection import WRITER, Lane
from runfold.store.postgres_url import parse_url


@pytest.fixture
async def admin(postgres_url: str) -> AsyncIterator[Any]:
    """A connection of an administrator, and the store's schema as its ``schema``."""
    database = parse_url(postgres_url)
    connection = await asyncpg.connect(database.dsn)
    await connection.execute(f"set search_path = {database.schema}")
    yield connection
    await connection.close()


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresStore]:
    store = await bound(PostgresStore(postgres_url))
    yield store
    await store.close()


async def test_a_missing_store_is_not_made_by_reading(postgres_url: str, admin: Any) -> None:
    """Whoever only reads a store that is not there is told how it is made, and leaves no schema behind."""
    with pytest.raises(StoreUnreachable, match=r"RUNFOLD_STORE.*runfold store migrate"):
        await PostgresStore(postgres_url).open(write=False)
    schema = parse_url(postgres_url).schema
    assert await admin.fetchval("select count(*) from pg_namespace where nspname = $1", schema) == 0


async def test_the_schema_of_another_application_is_refused(postgres_url: str, admin: Any) -> None:
    """Our tables are not put among somebody else's."""
    schema = parse_url(postgres_url).schema
    await admin.execute(f"create schema {schema}; create table {schema}.recipe (name text)")
    with pytest.raises(StoreRefused, match=r"RUNFOLD_STORE.*another application"):
        await PostgresStore(postgres_url).open()


@pytest.mark.parametrize("write", [True, False])
async def test_a_newer_schema_is_refused(store: PostgresStore, postgres_url: str, admin: Any, write: bool) -> None:
    """A store that a newer runfold has migrated is left alone, by readers too."""
    await admin.execute("update meta set schema_version = 99")
    with pytest.raises(StoreRefused, match=r"version 99.*newer runfold"):
        await PostgresStore(postgres_url).open(write=write)


async def test_an_older_schema_is_migrated_by_writers(
    store: PostgresStore, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer brings the tables forward and keeps every row; until then readers are told to wait for one."""
    await store.apply(batch(0), await claim(store))
    before = await dumped(store)
    newer = [*postgres_schema.MIGRATIONS, ("alter table note add column author text",)]
    monkeypatch.setattr(postgres_schema, "MIGRATIONS", newer)
    again = PostgresStore(postgres_url)
    with pytest.raises(StoreUnreachable, match="runfold store migrate"):
        await again.open(write=False)
    await again.open()
    assert (await again.identity()).schema_version == len(newer)
    assert await dumped(again) == before
    await again.close()


async def test_a_store_of_the_first_schema_is_served_on(
    postgres_url: str, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that the first version made and filled keeps its rows, leases and positions, and learns what is new."""
    lane = Lane(parse_url(postgres_url), WRITER)
    with monkeypatch.context() as first:
        first.setattr(postgres_schema, "MIGRATIONS", postgres_schema.MIGRATIONS[:1])
        await lane.run(postgres_schema.migrate)
    await lane.close()
    await admin.execute("insert into position values (0, 5, 3, 'old', 1, 0, 4, '\\x00', null)")
    store = await bound(PostgresStore(postgres_url))
    lease = (await store.claim("new", {0: 0, 1: 0}, lease=60))[0]
    assert (lease.position, lease.epoch, lease.taken_from, lease.history.takeovers) == (5, 4, "old", 1)
    assert (await store.workers(), await store.lost_ranges(), await store.growths()) == ([], [], [])
    await store.close()


async def test_a_failed_migration_leaves_the_old_schema(
    store: PostgresStore, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration that fails half way is undone whole."""
    broken = ("alter table note add column author text", "alter table nothing add column x integer")
    with monkeypatch.context() as patched:
        patched.setattr(postgres_schema, "MIGRATIONS", [*postgres_schema.MIGRATIONS, broken])
        with pytest.raises(StoreError):
            await PostgresStore(postgres_url).open()
    assert (await store.identity()).schema_version == len(postgres_schema.MIGRATIONS)
    await store.add_note(Note(partition=0, offset=0, kind="discard", reason="r", noted_at=1))


async def test_many_start_at_once_on_an_empty_database(postgres_url: str) -> None:
    """Workers that start together make the tables once, and all are bound to the same log and fold."""
    stores = [PostgresStore(postgres_url) for _ in range(5)]
    await asyncio.gather(*map(bound, stores))
    assert {(await store.identity()).cluster_id for store in stores} == {"c"}
    claimed = await asyncio.gather(*(claim(store, f"owner {n}") for n, store in enumerate(stores)))
    assert sorted(partition for leases in claimed for partition in leases) == [0, 1]
    for store in stores:
        await store.close()


async def test_readers_need_no_more_than_the_readers_role(store: PostgresStore, postgres_url: str, admin: Any) -> None:
    """A login that is granted runfold_reader reads everything, writes nothing, and is told why."""
    role, schema = f"reader_{uuid4().hex[:8]}", parse_url(postgres_url).schema
    await admin.execute(
        """do $$ begin create role runfold_reader nologin; exception when duplicate_object or unique_violation then null;
            end $$"""
    )
    await admin.execute(f"create role {role} login in role runfold_reader")
    await admin.execute("update meta set schema_version = 0; drop table meta cascade")  # an empty store, made again
    await admin.execute(f"drop schema {schema} cascade")
    owner = await bound(PostgresStore(postgres_url))
    await owner.apply(batch(0), await claim(owner))
    parts = urlsplit(postgres_url)
    url = parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}").geturl()
    reader = PostgresStore(url)
    await reader.open(write=False)
    assert len(await reader.list_runs(RunFilter(limit=50))) == 30
    assert await dumped(reader) == await dumped(owner)
    with pytest.raises(RuntimeError, match="not open to write"):
        await reader.add_note(Note(partition=0, offset=0, kind="discard", reason="r", noted_at=1))
    writer = PostgresStore(url)
    await writer.open()  # nothing is to be migrated
    with pytest.raises(StoreRefused, match=r"RUNFOLD_STORE.*role may not.*runfold_reader"):
        await writer.add_note(Note(partition=0, offset=0, kind="discard", reason="r", noted_at=1))
    for each in (owner, reader, writer):
        await each.close()
    await admin.execute(f"drop role {role}")


async def test_a_database_that_is_not_there_is_named(postgres_url: str) -> None:
    """The message names the setting and the remedy."""
    missing = urlsplit(postgres_url)._replace(path="/nowhere").geturl()
    with pytest.raises(StoreRefused, match=r"nowhere.*RUNFOLD_STORE.*create it"):
        await PostgresStore(missing).open()


async def test_a_server_that_is_not_there_is_named(unused_tcp_port: int) -> None:
    """Nobody listens: the message names the address, and not the password."""
    with pytest.raises(StoreUnreachable, match=r"RUNFOLD_STORE.*is it running") as told:
        await PostgresStore(f"postgresql://ann:s3cret@127.0.0.1:{unused_tcp_port}/runs").open()
    assert "s3cret" not in str(told.value)


async def test_tables_that_are_gone_are_named(store: PostgresStore, admin: Any, postgres_url: str) -> None:
    """Somebody dropped them under a living store: it says so, and does not make empty ones."""
    await admin.execute(f"drop schema {parse_url(postgres_url).schema} cascade")
    with pytest.raises(StoreRefused, match=r"RUNFOLD_STORE.*tables are gone"):
        await store.partitions()


async def test_a_schema_that_is_switched_under_a_living_store_is_noticed(
    store: PostgresStore, admin: Any, postgres_url: str
) -> None:
    """Renamed schemas are found by name again at the next statement: no connection stays with the old tables."""
    schema = parse_url(postgres_url).schema
    shadow = await bound(PostgresStore(postgres_url.replace(schema, f"{schema}_new")))
    await store.apply(batch(0), await claim(store))
    await store.find_run("run_0_0")
    await shadow.apply(batch(0, new=7), await claim(shadow))
    await admin.execute(f"alter schema {schema} rename to {schema}_old; alter schema {schema}_new rename to {schema}")
    assert (await store.count_runs())["in_progress"] == 7
    assert await store.find_run("run_0_9") == []
    assert len(await store.load(0, ["run_0_0", "run_0_9"])) == 1
    await shadow.close()
