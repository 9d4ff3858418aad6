"""Connections to the files of the SQLite store: how they are set, and how a transaction ends."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

MAKE, WRITE, READ = "rwc", "rw", "ro"
"""What a connection is for: to write a file that is made where there is none, to write one that is there, to read."""

BUSY_SECONDS: Final = 5.0
PAGE: Final = 8192
WRITER_CACHE_KB: Final = 64_000
READER_CACHE_KB: Final = 8_000

AT_ONCE: Final = (1024, 64)
"""How many rows one statement may insert. More at once are no cheaper, and each number is a statement to be prepared."""

NOW: Final = "cast((julianday('now') - 2440587.5) * 86400000 as integer)"
"""The store's clock, Unix milliseconds: SQLite's own, so that all who share a file share it."""

_WRITER: Final = (
    f"pragma page_size = {PAGE}",
    "pragma journal_mode = wal",
    # The log still has what a power cut takes; the position that goes with it is taken too.
    "pragma synchronous = normal",
    f"pragma cache_size = -{WRITER_CACHE_KB}",
    # 64 MB: a page that several batches touch is copied into the file once.
    "pragma wal_autocheckpoint = 8000",
)
_READER: Final = ("pragma query_only = on", f"pragma cache_size = -{READER_CACHE_KB}")


def connect(path: Path, *, mode: str, factory: type[sqlite3.Connection] = sqlite3.Connection) -> sqlite3.Connection:
    """A connection in autocommit mode, with its pragmas set. Raises what SQLite raises."""
    db = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
        factory=factory,
    )
    try:
        for pragma in _READER if mode == READ else _WRITER:
            db.execute(pragma)
    except sqlite3.Error:
        db.close()
        raise
    return db


@contextmanager
def transaction(db: sqlite3.Connection, *, begin: str = "begin immediate") -> Iterator[None]:
    """All or nothing. After any failure the connection stands outside a transaction, ready for the next one."""
    try:
        db.execute(begin)
        yield
        db.execute("commit")
    except BaseException:
        roll_back(db)
        raise


def roll_back(db: sqlite3.Connection) -> None:
    """End a transaction that failed. SQLite has ended some of them itself, such as on a full disk."""
    if db.in_transaction:
        # The error that matters is the one on its way; what cannot be rolled back here is when the file is next opened.
        with suppress(sqlite3.Error):
            db.execute("rollback")


def insert_all(db: sqlite3.Connection, into: str, rows: Sequence[tuple[Any, ...]], *, otherwise: str = "") -> None:
    """Insert rows, all of one width; ``otherwise`` is what follows the values, an ``on conflict`` clause.

    Without one, a row that cannot be inserted ends the transaction, for which SQLite need not keep what a statement changes.

    Many rows a statement: the interpreter's lock is let go of, and waited for, once a statement. Who waits for a thread that
    folds waits long.
    """
    if not rows:
        return
    width, begin = len(rows[0]), 0
    insert, marks = "insert" if otherwise else "insert or rollback", f"({', '.join('?' * width)})"
    for size in AT_ONCE:
        if len(rows) - begin < size or size * width > db.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER):
            continue
        many = f"{insert} into {into} values {', '.join([marks] * size)} {otherwise}"
        while len(rows) - begin >= size:
            db.execute(many, tuple(chain.from_iterable(rows[begin : begin + size])))
            begin += size
    db.executemany(f"{insert} into {into} values {marks} {otherwise}", rows[begin:])
