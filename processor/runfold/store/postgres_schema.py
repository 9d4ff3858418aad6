"""The PostgreSQL store's tables, and the way from one version of them to the next.

A version that was ever released is never edited: a change is a new entry at the end of ``MIGRATIONS``. Each index costs
every write, so each is argued for by the query that needs it. Text is compared byte by byte (collation C), as every other
store does; ids stand in indexes as hashes, since an index takes no entry above 2.7 kB. A row that changes without touching
an indexed column is written in place (HOT), so what changes with every event stands in no index: of a run's status only
the last one does.
"""

from __future__ import annotations

from typing import Final

from asyncpg import Connection, Record

from runfold.fold.usage import SUMS
from runfold.store.port import StoreRefused, StoreUnreachable
from runfold.store.postgres_connection import Session
from runfold.store.postgres_url import Database
from runfold_schemas import RunStatus

READER_ROLE: Final = "runfold_reader"
"""Where the server has a role of this name, it is granted what readers need."""

_TEXT: Final = 'text collate "C"'
_SUM_COLUMNS: Final = ", ".join(f"{name} bigint not null" for name in SUMS)
# Dead versions of a few hot rows are taken away early, before they cost.
_HOT: Final = "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000"

_FIRST = (
    # Whose store this is: one row.
    f"""create table meta (one boolean primary key default true check (one), schema_version integer not null,
        cluster_id {_TEXT}, topic {_TEXT}, partitions integer, fold_version integer, settings_hash {_TEXT})""",
    "insert into meta (schema_version) values (0)",
    # run.fold and journal.fold point here, so that every row tells which fold, with which settings, wrote it.
    f"""create table generation (n integer generated always as identity primary key, fold_version integer not null,
        settings_hash {_TEXT} not null, since bigint not null, unique (fold_version, settings_hash))""",
    # backend and backend_since name the connection that writes for the owner: see postgres_leases.
    f"""create table position (partition integer primary key, next bigint not null, epoch bigint not null, owner {_TEXT},
        lease_until bigint not null, first_offset bigint not null, last_offset bigint, last_hash bytea, committed_at bigint,
        backend integer, backend_since timestamptz) with (fillfactor = 30, {_HOT})""",
    # The wide columns stand last. Room is left on a page for an open run's next version beside the old one.
    f"""create table run (run_key bigint not null, thread_key bigint not null, created_at bigint not null,
        minute bigint, final_timestamp bigint, partition integer not null, flags integer not null,
        dimension integer not null, fold integer not null, status smallint not null,
        ended smallint generated always as (case when status >= {RunStatus.CANCELLED} then status end) stored,
        run_id {_TEXT} not null, thread_id {_TEXT} not null, body bytea not null)
        with (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05)""",
    # A run by its id, for the fold and for people.
    "create index run_by_key on run (run_key)",
    # The runs of a thread, newest first.
    "create index run_by_thread on run (thread_key, created_at)",
    # Lists of the runs under way, whatever their status: they are few at any time. Newest first.
    "create index run_open on run (created_at) where ended is null",
    # Lists of the runs that ended, by how; the newest runs of all are the merge of these walks and the one above.
    "create index run_ended on run (ended, created_at) where ended is not null",
    # The few runs that people should look at, newest first, and counted by flag without reading a row.
    "create index run_flagged on run (created_at, flags) where flags <> 0",
    # hash finds the key of dimensions that are not in memory: they may be longer than an index takes.
    f"""create table dimension (n integer generated always as identity primary key, hash bytea not null unique,
        model {_TEXT} not null, assistant_id {_TEXT} not null, project_id {_TEXT} not null, user_id {_TEXT} not null,
        api_key_id {_TEXT} not null)""",
    # Ordered by minute first: what a report reads lies together, and a batch writes the last minutes' few pages. A thousand
    # runs that claim 2**53 tokens each are more than a bigint holds.
    f"""create table usage (minute bigint not null, dimension integer not null, status smallint not null,
        {_SUM_COLUMNS.replace("bigint", "numeric")},
        primary key (minute, dimension, status)) with (fillfactor = 80, {_HOT})""",
    f"""create table letter (partition integer not null, log_offset bigint not null, timestamp bigint not null,
        reason {_TEXT} not null, detail {_TEXT} not null, run_key bigint, run_id {_TEXT}, key bytea, headers bytea,
        value bytea, primary key (partition, log_offset))""",
    # The letters of one run: shown with it, and read again by every refold of it.
    "create index letter_by_run on letter (run_key, partition, log_offset) where run_key is not null",
    f"""create table journal (partition integer not null, log_offset bigint not null, part integer not null,
        run_key bigint not null, run_id {_TEXT} not null, timestamp bigint not null, minute bigint not null,
        dimension integer not null, status smallint not null, {_SUM_COLUMNS}, fold integer not null,
        primary key (partition, log_offset, part))""",
    # A refold replaces a run's entries.
    "create index journal_by_run on journal (run_key)",
    f"""create table tally (partition integer not null, outcome {_TEXT} not null, count bigint not null,
        primary key (partition, outcome)) with (fillfactor = 50, {_HOT})""",
    f"""create table note (partition integer not null, log_offset bigint not null, kind {_TEXT} not null,
        reason {_TEXT} not null, noted_at bigint not null, primary key (partition, log_offset, kind))""",
)
_WORKERS = (
    # What the claims of a partition tell about its owners: see claims.
    """alter table position add column takeovers bigint not null default 0, add column stalled integer not null default 0,
        add column claimed_at bigint, add column trial bigint, add column suspect bigint,
        add column deaths integer not null default 0""",
    # Who is alive, with partitions or without.
    f"""create table worker (owner {_TEXT} primary key, since bigint not null, seen_at bigint not null,
        alive_until bigint not null) with (fillfactor = 50, {_HOT})""",
    # What the log had lost before it was folded, and whether somebody has decided to go on behind it.
    """create table lost_range (partition integer not null, first bigint not null, following bigint not null,
        noticed_at bigint not null, accepted_at bigint, primary key (partition, first))""",
    # That the log has more partitions than it had: one row each time that was accepted.
    """create table growth (partitions integer primary key, before integer not null, open_runs bigint not null,
        accepted_at bigint not null)""",
)
_STANDING = (
    # How this schema came to be the live store: the number of the last switch that made it so, the schema that it took over
    # from, and what a rebuild was told to fold (null: served from the beginning).
    f"""alter table meta add column switched bigint not null default 0, add column former {_TEXT}, add column scope {_TEXT}""",
)
_READING = (
    # What status and every answer of the API tell of runs without usage, without a sum over all buckets.
    "alter table position add column without_usage bigint not null default 0",
    """update position set without_usage = (select coalesce(sum(without_usage), 0) from usage)
        where partition = (select min(partition) from position)""",
    # Few rows, read as a whole.
    f"""create table api_key (key_id {_TEXT} primary key, hash bytea not null, name {_TEXT} not null,
        scopes {_TEXT} not null, project_id {_TEXT}, created_at bigint not null, revoked_at bigint)""",
)
MIGRATIONS: list[tuple[str, ...]] = [_FIRST, _WORKERS, _STANDING, _READING]
LATE_INDEXES: Final = ("run_by_thread", "run_open", "run_ended", "run_flagged", "letter_by_run", "journal_by_run")
"""Indexes that no fold asks: a rebuild makes them when all its rows are there."""

_LOCK: Final = "select pg_advisory_xact_lock(hashtextextended('runfold:' || $1, 0))"
_OURS: Final = """select
    exists (select from pg_attribute where attrelid = to_regclass($1 || '.meta') and attname = 'schema_version') as ours,
    exists (select from pg_class as c join pg_namespace as s on s.oid = c.relnamespace where nspname = $1) as inhabited"""


async def lock_schema(session: Session) -> None:
    """One at a time for whatever concerns the store as a whole; until the end of the caller's transaction."""
    await session.connection.execute(_LOCK, session.database.schema)


async def schema_version(connection: Connection[Record]) -> int:
    version: int = await connection.fetchval("select schema_version from meta")
    return version


async def check_schema(session: Session) -> int:
    """The version of the tables, 0 where there are none. Raises StoreRefused for tables of others, or of a newer runfold."""
    database, newest = session.database, len(MIGRATIONS)
    found = await session.connection.fetchrow(_OURS, database.schema)
    assert found is not None
    if found["inhabited"] and not found["ours"]:
        raise StoreRefused(
            f"the store {database.place} (RUNFOLD_STORE): the schema has tables of another application; name another one"
        )
    version = await schema_version(session.connection) if found["ours"] else 0
    if version > newest:
        raise StoreRefused(
            f"the store {database.place} (RUNFOLD_STORE) has schema version {version}, this runfold knows {newest}: "
            "install a newer runfold"
        )
    return version


async def migrate(session: Session) -> None:
    """Bring the tables to the newest version, in one transaction. Raises as :func:`check_schema`."""
    async with session.glancing():
        if await check_schema(session) == len(MIGRATIONS):
            return
    async with session.writing():
        await lock_schema(session)
        # Another process may have been quicker: the version counts that is found under the lock.
        version = await check_schema(session)
        if version == 0:
            await _make_schema(session)
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                await session.connection.execute(statement)
        if version == 0:
            await _compress_bodies(session)
        await session.connection.execute("update meta set schema_version = $1", len(MIGRATIONS))
        await _grant(session)


async def drop_late_indexes(session: Session) -> None:
    """For a schema that is filled from nothing, and asked nothing by people until it is full."""
    for name in LATE_INDEXES:
        await session.connection.execute(f"drop index {name}")


async def make_late_indexes(session: Session) -> None:
    """Make what :func:`drop_late_indexes` left out; those that are there stay."""
    for statements in MIGRATIONS:
        for statement in statements:
            if statement.startswith("create index"):
                await session.connection.execute(statement.replace("create index", "create index if not exists", 1))


async def check_readable(session: Session) -> None:
    """For those who only read: raises StoreUnreachable where the tables are not there yet, or are of an older version."""
    async with session.glancing():
        version = await check_schema(session)
    if version < len(MIGRATIONS):
        raise _too_old(session.database, version)


def _too_old(database: Database, version: int) -> StoreUnreachable:
    return StoreUnreachable(
        f"the store {database.place} (RUNFOLD_STORE) has schema version {version}, this runfold reads {len(MIGRATIONS)}: "
        "run `runfold store migrate`, or `runfold serve`, which does so too"
    )


async def _make_schema(session: Session) -> None:
    schema = session.database.schema
    # Not "if not exists": that asks for the right to create schemas also where an administrator has made this one.
    if not await session.connection.fetchval("select exists (select from pg_namespace where nspname = $1)", schema):
        await session.connection.execute(f'create schema "{schema}"')


async def _grant(session: Session) -> None:
    if await session.connection.fetchval("select exists (select from pg_roles where rolname = $1)", READER_ROLE):
        schema = session.database.schema
        await session.connection.execute(
            f'grant usage on schema "{schema}" to {READER_ROLE}; '
            f'grant select on all tables in schema "{schema}" to {READER_ROLE}'
        )


async def _compress_bodies(session: Session) -> None:
    """Large bodies by lz4 where the server was built with it: five times as fast as its default."""
    if await session.connection.fetchval(
        "select 'lz4' = any (enumvals) from pg_settings where name = 'default_toast_compression'"
    ):
        await session.connection.execute("alter table run alter column body set compression lz4")
