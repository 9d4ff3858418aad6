"""The SQLite store's tables, and the way from one version of them to the next.

A version that was ever released is never edited: a change is a new entry at the end of ``MIGRATIONS``. Each index costs
every write, so each is argued for by the query that needs it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from runfold.fold.usage import SUMS
from runfold.store.port import StoreRefused, StoreUnreachable
from runfold.store.sqlite_connection import READER_CACHE_KB, transaction

APPLICATION_ID: Final = 0x52756E66  # "Runf": tells our files from any other SQLite file
_SUM_COLUMNS = ", ".join(f"{name} integer not null" for name in SUMS)
# A sum that outgrows 63 bits would silently become a float.
_WHOLE_SUMS = ", ".join(f"check (typeof({name}) = 'integer')" for name in SUMS)

_FIRST = (
    # Whose store this is: one row.
    """create table meta (one integer primary key check (one = 1), cluster_id text, topic text, partitions integer,
        fold_version integer, settings_hash text)""",
    # run.fold and journal.fold point here, so that every row tells which fold, with which settings, wrote it.
    """create table generation (n integer primary key, fold_version integer not null, settings_hash text not null,
        since integer not null, unique (fold_version, settings_hash))""",
    """create table position (partition integer primary key, next integer not null, epoch integer not null, owner text,
        lease_until integer not null, first_offset integer not null, last_offset integer, last_hash blob,
        committed_at integer)""",
    # Rows are appended in the order of n; the body stands last, so that the columns before it can be read without it.
    # There is no index over run_id or thread_id here: see sqlite_keys.
    """create table run (n integer primary key, run_id text not null, partition integer not null, thread_id text not null,
        status integer not null, created_at integer not null, flags integer not null, dimension integer not null,
        minute integer, final_timestamp integer, fold integer not null, body blob not null)""",
    # Lists by status, and the newest runs of all (one ordered walk a status, merged); runs counted by status. New entries
    # go to the right end of their status, so its pages stay dense, where a text key's would be written at random.
    "create index run_by_status on run (status, created_at)",
    # The few runs that people should look at, newest first, and counted by flag without reading a row.
    "create index run_flagged on run (created_at, flags) where flags != 0",
    # Keys in two levels: see sqlite_keys, which says why.
    "create table run_key_young (hash integer not null, n integer not null, primary key (hash, n)) without rowid",
    "create table run_key_settled (hash integer not null, n integer not null, primary key (hash, n)) without rowid",
    """create table thread_key_young (hash integer not null, created_at integer not null, n integer not null,
        primary key (hash, created_at, n)) without rowid""",
    """create table thread_key_settled (hash integer not null, created_at integer not null, n integer not null,
        primary key (hash, created_at, n)) without rowid""",
    "create table key_level (name text primary key, young integer not null, hand integer not null) without rowid",
    "insert into key_level values ('run_key', 0, -1), ('thread_key', 0, -1)",
    # The unique index finds a key for dimensions that are not in memory.
    """create table dimension (n integer primary key, model text not null, assistant_id text not null,
        project_id text not null, user_id text not null, api_key_id text not null,
        unique (model, assistant_id, project_id, user_id, api_key_id))""",
    # Ordered by minute first: what a report reads lies together, and what a batch writes is the last minutes' few pages.
    # A bucket whose sums outgrow 63 bits goes on in a row with the next part: see sqlite_usage.
    f"""create table usage (minute integer not null, dimension integer not null, status integer not null,
        part integer not null, {_SUM_COLUMNS}, primary key (minute, dimension, status, part), {_WHOLE_SUMS})
        without rowid""",
    """create table letter (partition integer not null, offset integer not null, timestamp integer not null,
        reason text not null, detail text not null, run_id text, key blob, headers blob, value blob,
        primary key (partition, offset))""",
    # The letters of one run: shown with it, and read again by every refold of it.
    "create index letter_by_run on letter (run_id, partition, offset) where run_id is not null",
    f"""create table journal (partition integer not null, offset integer not null, part integer not null,
        run_id text not null, timestamp integer not null, minute integer not null, dimension integer not null,
        status integer not null, {_SUM_COLUMNS}, fold integer not null, primary key (partition, offset, part)) without rowid""",
    # A refold replaces a run's entries.
    "create index journal_by_run on journal (run_id, partition)",
    """create table tally (partition integer not null, outcome text not null, count integer not null,
        primary key (partition, outcome)) without rowid""",
    """create table note (partition integer not null, offset integer not null, kind text not null, reason text not null,
        noted_at integer not null, primary key (partition, offset, kind)) without rowid""",
)
_WORKERS = (
    # What the claims of a partition tell about its owners: see claims.
    "alter table position add column takeovers integer not null default 0",
    "alter table position add column stalled integer not null default 0",
    "alter table position add column claimed_at integer",
    "alter table position add column trial integer",
    "alter table position add column suspect integer",
    "alter table position add column deaths integer not null default 0",
    # Who is alive, with partitions or without.
    """create table worker (owner text primary key, since integer not null, seen_at integer not null,
        alive_until integer not null) without rowid""",
    # What the log had lost before it was folded, and whether somebody has decided to go on behind it.
    """create table lost_range (partition integer not null, first integer not null, following integer not null,
        noticed_at integer not null, accepted_at integer, primary key (partition, first)) without rowid""",
    # That the log has more partitions than it had: one row each time that was accepted.
    """create table growth (partitions integer primary key, before integer not null, open_runs integer not null,
        accepted_at integer not null)""",
)
_STANDING = (
    # How this file came to be the live store, or ceased to be: see sqlite_links, which says what each column is for.
    """create table standing (one integer primary key check (one = 1), successor text, number integer not null,
        former text, scope text)""",
    "insert into standing values (1, null, 0, null, null)",
)
_READING = (
    # What status and every answer of the API tell of runs without usage, without a sum over all buckets.
    "alter table position add column without_usage integer not null default 0",
    """update position set without_usage = (select coalesce(sum(without_usage), 0) from usage)
        where partition = (select min(partition) from position)""",
    # Few rows, read as a whole.
    """create table api_key (key_id text primary key, hash blob not null, name text not null, scopes text not null,
        project_id text, created_at integer not null, revoked_at integer) without rowid""",
)
MIGRATIONS: list[tuple[str, ...]] = [_FIRST, _WORKERS, _STANDING, _READING]
OF_LISTS: Final = ("run_by_status", "run_flagged")
"""Indexes that only lists of runs ask."""
LATE_INDEXES: Final = (*OF_LISTS, "letter_by_run", "journal_by_run")
"""Indexes that no fold asks: a rebuild makes them when all its rows are there."""


def schema_version(db: sqlite3.Connection) -> int:
    """The version of the tables in the file; 0 for an empty one."""
    return int(db.execute("pragma user_version").fetchone()[0])


def check_schema(db: sqlite3.Connection, path: Path) -> int:
    """The file's version. Raises StoreRefused for a file of somebody else, or of a newer runfold."""
    version, newest = schema_version(db), len(MIGRATIONS)
    foreign = db.execute("pragma application_id").fetchone()[0] not in (0, APPLICATION_ID)
    if foreign or (version == 0 and db.execute("select exists (select 1 from sqlite_master)").fetchone()[0]):
        raise StoreRefused(f"{path} (RUNFOLD_STORE) is the database of another application; name another file")
    if version > newest:
        raise StoreRefused(
            f"{path} (RUNFOLD_STORE) has schema version {version}, this runfold knows {newest}: install a newer runfold"
        )
    return version


def migrate(db: sqlite3.Connection, path: Path) -> None:
    """Bring the tables to the newest version, in one transaction. Raises as :func:`check_schema`."""
    if check_schema(db, path) == len(MIGRATIONS):
        return
    with transaction(db):
        # Another process may have been quicker: the version counts that is found under the lock.
        for statements in MIGRATIONS[check_schema(db, path) :]:
            for statement in statements:
                db.execute(statement)
        db.execute(f"pragma application_id = {APPLICATION_ID}")
        db.execute(f"pragma user_version = {len(MIGRATIONS)}")


def drop_late_indexes(db: sqlite3.Connection, names: Sequence[str] = LATE_INDEXES) -> None:
    """For a file that is filled from nothing, and asked nothing by people until it is full."""
    with transaction(db):
        for name in names:
            db.execute(f"drop index {name}")


def make_late_indexes(db: sqlite3.Connection) -> None:
    """Make what :func:`drop_late_indexes` left out; those that are there stay.

    SQLite sorts in as much memory as it may cache, beside what it caches: with a writer's cache it took 100 MB.
    """
    db.execute(f"pragma cache_size = -{READER_CACHE_KB}")
    for statements in MIGRATIONS:
        for statement in statements:
            if statement.startswith("create index"):
                db.execute(statement.replace("create index", "create index if not exists", 1))


def check_readable(db: sqlite3.Connection, path: Path) -> None:
    """For those who only read: raises StoreUnreachable where the tables are not there yet, or are of an older version."""
    version = check_schema(db, path)
    if version < len(MIGRATIONS):
        raise StoreUnreachable(
            f"{path} (RUNFOLD_STORE) has schema version {version}, this runfold reads {len(MIGRATIONS)}: "
            "run `runfold store migrate`, or `runfold serve`, which does so too"
        )
