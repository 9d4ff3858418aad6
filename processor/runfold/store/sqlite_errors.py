"""What SQLite's errors mean to people: the one place where they become StoreUnreachable or StoreRefused.

Every message names the file, the setting and the remedy. Errors that only a bug can cause (a broken constraint, a wrong
statement) pass through as they are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runfold.store.port import REBUILD, StoreError, StoreRefused, StoreUnreachable

_UNREACHABLE = {
    sqlite3.SQLITE_FULL: "the disk or the quota is full; make room and start again, nothing was half written",
    sqlite3.SQLITE_READONLY: "the file or its folder is read-only; make both writable for this user, or choose another",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; the folder has to exist and be readable and writable for this user",
    sqlite3.SQLITE_PERM: "this user may not open it; change the permissions, or choose another file",
    sqlite3.SQLITE_BUSY: "another process keeps it locked; wait for it, or end it",
    sqlite3.SQLITE_LOCKED: "another connection keeps it locked; wait for it, or end it",
    sqlite3.SQLITE_IOERR: "reading or writing it failed; check the disk",
    sqlite3.SQLITE_PROTOCOL: "its locks cannot be had; it has to lie on a local disk, not on a network share",
    sqlite3.SQLITE_NOMEM: "there is not enough memory",
    sqlite3.SQLITE_INTERRUPT: "the statement was interrupted",
}
_REFUSED = {
    sqlite3.SQLITE_NOTADB: "it is no SQLite database; name another file",
    sqlite3.SQLITE_CORRUPT: f"it is damaged; {REBUILD}",
    sqlite3.SQLITE_SCHEMA: "its tables changed under this process; start again",
}
_BUGS = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.NotSupportedError)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise what SQLite raises inside as a StoreError about the store at ``path``."""
    try:
        yield
    except _BUGS:
        raise
    except sqlite3.Error as error:
        raise _meaning(path, error) from error


def _meaning(path: Path, error: sqlite3.Error) -> StoreError:
    # Errors raised by the Python module itself carry no code.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    place = f"the store {path} (RUNFOLD_STORE)"
    if code in _REFUSED:
        return StoreRefused(f"{place}: {_REFUSED[code]} ({error})")
    return StoreUnreachable(f"{place}: {_UNREACHABLE.get(code, 'SQLite failed')} ({error})")
