"""Usage rows: adding to them, and reading them, whatever the size of the sums.

SQLite's integers end at 63 bits, and a thousand runs that claim 2**53 tokens each end beyond. The table refuses such a sum;
the bucket then goes on in another row, with the next ``part``, and readers add the parts up. Nobody else pays for it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Final

from runfold.fold.usage import SUMS

_ADD: Final = f"""insert into usage values (?, ?, ?, ?, {", ".join("?" * len(SUMS))}) on conflict do update set
    {", ".join(f"{name} = {name} + excluded.{name}" for name in SUMS)}"""
_LARGEST: Final = 2**62


def add_usage(db: sqlite3.Connection, rows: Sequence[tuple[int, ...]]) -> None:
    """Add to buckets, in a transaction of the caller's: rows of minute, dimension, status, 0 and the sums, in order."""
    db.execute("savepoint usage_added")
    try:
        db.executemany(_ADD, rows)
    except (OverflowError, sqlite3.IntegrityError):
        db.execute("rollback to usage_added")
        for row in rows:
            _add_large(db, row)
    db.execute("release usage_added")


def added_up(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Rows of a bucket's columns and its sums, in order of the bucket: each bucket once, those of zeros left out."""
    width = len(SUMS)
    for bucket, parts in groupby(rows, key=lambda row: row[:-width]):
        first, *others = (row[-width:] for row in parts)
        sums = tuple(map(sum, zip(first, *others, strict=True))) if others else first
        if any(sums):
            yield (*bucket, *sums)


def _add_large(db: sqlite3.Connection, row: tuple[int, ...]) -> None:
    bucket, sums = row[:3], row[4:]
    while any(sums):
        piece = [max(-_LARGEST, min(_LARGEST, number)) for number in sums]
        part = 0
        while not _added(db, (*bucket, part, *piece)):
            part += 1
        sums = tuple(number - taken for number, taken in zip(sums, piece, strict=True))


def _added(db: sqlite3.Connection, row: tuple[int, ...]) -> bool:
    try:
        db.execute(_ADD, row)
    except sqlite3.IntegrityError:
        return False  # a sum would not be whole any more
    return True
