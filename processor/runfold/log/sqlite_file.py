"""The file of a SQLite log: how it is made, opened and recognised, and what its errors mean to a person.

A log exists whole or not at all: it is made under another name and then linked to its own. The number of partitions is
fixed there and then. A change of the tables raises ``SCHEMA_VERSION`` and needs a way forward for the files that exist.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from runfold.log.durable import sync_folder
from runfold.log.port import LogError, LogIdentity, LogMissing, LogUnreachable

APPLICATION_ID = 0x52464C47  # "RFLG": what tells our log from any other SQLite file
SCHEMA_VERSION = 1
MOST_PARTITIONS = 1_000

_PAGE_SIZE = 8_192
_CHECKPOINT_PAGES = 2_000  # 16 MB of WAL before it is copied into the file
_BUSY_SECONDS = 5.0

_UNREACHABLE = {
    sqlite3.SQLITE_FULL: "the disk (or the size the file may have) is full; make room, nothing was written",
    sqlite3.SQLITE_READONLY: "it may not be written; give this user the right to write the file and its folder",
    sqlite3.SQLITE_BUSY: f"another process has kept it locked for {_BUSY_SECONDS:g} s; see which one, then try again",
    sqlite3.SQLITE_LOCKED: "it is locked; see which process uses it, then try again",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; the file and its folder must be readable and writable by this user",
    sqlite3.SQLITE_PERM: "access is denied; give this user the right to read and write the file and its folder",
    sqlite3.SQLITE_IOERR: "the disk reports an error; check it, and what it is mounted with",
}
_NOT_OURS = "it is not a runfold log, or it is damaged; name another file, or restore this one from a copy"


class LogFile(NamedTuple):
    """What a log says of itself, and which file on disk it is."""

    identity: LogIdentity
    partitions: int
    inode: tuple[int, int]


@contextmanager
def told_to_a_person(path: Path) -> Iterator[None]:
    """Turn what SQLite and the operating system raise into LogErrors; the one place where that is done."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:  # misuse of the driver, not a state of the log
            raise
        if remedy := _UNREACHABLE.get(code & 0xFF):
            raise LogUnreachable(f"RUNFOLD_LOG: {path}: {remedy} ({error})") from error
        raise LogError(f"RUNFOLD_LOG: {path}: {_NOT_OURS} ({error})") from error
    except FileNotFoundError as error:
        raise missing(path) from error
    except OSError as error:
        raise LogUnreachable(f"RUNFOLD_LOG: {path}: {error.strerror}; check the path and the rights on it") from error


def missing(path: Path) -> LogMissing:
    """There is no such file."""
    return LogMissing(f"RUNFOLD_LOG: there is no log at {path}; publish something (that makes it), or correct the path")


def inode(path: Path) -> tuple[int, int]:
    """Which file the path names now."""
    found = path.stat()
    return found.st_dev, found.st_ino


def check_same_file(path: Path, opened: LogFile) -> None:
    """Raise LogMissing where the path no longer names the opened file.

    Without this a deleted log would be read and written on in silence, and be gone when the last process closes it.
    """
    try:
        same = inode(path) == opened.inode
    except FileNotFoundError:
        same = False
    if not same:
        raise LogMissing(
            f"RUNFOLD_LOG: {path} was deleted or replaced while it was open; start again to use what is there"
        )


def create(path: Path, *, partitions: int) -> None:
    """Make an empty log, unless there is a file of that name; safe while others do the same."""
    _check_no_stale_wal(path)
    if path.exists():
        return
    _make_folder(path)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with closing(sqlite3.connect(unfinished, isolation_level=None)) as connection:
            _write_schema(connection, topic=path.name, partitions=partitions)
        try:
            os.link(unfinished, path)
        except FileExistsError:
            return  # somebody else was faster: theirs it is
    finally:
        unfinished.unlink(missing_ok=True)
    sync_folder(path.parent)


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # also FileNotFoundError, below /proc, which elsewhere means that there is no log
        raise LogUnreachable(
            f"RUNFOLD_LOG: {path}: its folder cannot be made: {error.strerror}; check the path and the rights on it"
        ) from error


def _check_no_stale_wal(path: Path) -> None:
    # SQLite would replay the WAL of a deleted log into the new one. The order of the two looks matters: a WAL that belongs
    # to a log comes after it. It is not deleted here, because it may hold the last records of what was deleted by mistake.
    wal = path.with_name(f"{path.name}-wal")
    if wal.exists() and wal.stat().st_size and not path.exists():
        raise LogError(
            f"RUNFOLD_LOG: {path} is gone, but its {wal.name} is still there; restore the log, or delete that too"
        )


def _write_schema(connection: sqlite3.Connection, *, topic: str, partitions: int) -> None:
    connection.execute(f"PRAGMA page_size = {_PAGE_SIZE}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("CREATE TABLE meta (log_id TEXT NOT NULL, topic TEXT NOT NULL, partitions INTEGER NOT NULL)")
    connection.execute("INSERT INTO meta VALUES (?, ?, ?)", (str(uuid.uuid4()), topic, partitions))
    for partition in range(partitions):
        connection.execute(
            f"CREATE TABLE partition_{partition}"
            " (offset INTEGER PRIMARY KEY, timestamp INTEGER NOT NULL, key BLOB, value BLOB, headers BLOB)"
        )
        # Few records have headers. Through this index they are found without looking at the others.
        connection.execute(
            f"CREATE INDEX headers_{partition} ON partition_{partition} (offset) WHERE headers IS NOT NULL"
        )
    connection.execute("COMMIT")


def open_for_writing(path: Path) -> sqlite3.Connection:
    """A connection whose commits are on disk when they return. Made and used on one thread."""
    connection = _connect(path, "rw")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A read-only connection. Made and used on one thread."""
    return _connect(path, "ro")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    if not path.exists():
        raise missing(path)
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_SECONDS, check_same_thread=False)


def recognise(connection: sqlite3.Connection, path: Path) -> LogFile:
    """Read what the log says of itself. Raises LogError where it is no log of ours, or a newer version's."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID:
        raise LogError(f"RUNFOLD_LOG: {path} is a SQLite file, but not a runfold log; name another file")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != SCHEMA_VERSION:
        raise LogError(
            f"RUNFOLD_LOG: {path} has log format {version}, this runfold reads {SCHEMA_VERSION}; use the one that wrote it"
        )
    log_id, topic, partitions = connection.execute("SELECT log_id, topic, partitions FROM meta").fetchone()
    return LogFile(LogIdentity(log_id, topic), partitions, inode(path))
