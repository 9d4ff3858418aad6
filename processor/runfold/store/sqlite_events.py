"""Dead letters and journal in the SQLite store: rows that are keyed by a record's place in the log."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Final

from runfold.fold.changes import Changes, JournalEntry, Letter
from runfold.fold.usage import SUMS
from runfold.store.rows import decode_headers, encode_headers, numbered
from runfold.store.sqlite_stamp import Stamp

_INSERT_LETTER: Final = "insert into letter values (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_JOURNAL: Final = f"insert into journal values ({', '.join('?' * (9 + len(SUMS)))})"


def write_events(db: sqlite3.Connection, changes: Changes, stamp: Stamp) -> None:
    """Insert a batch's letters and journal entries, in a transaction of the caller's."""
    db.executemany(_INSERT_LETTER, sorted(map(_letter_row, changes.letters), key=itemgetter(0, 1)))
    if changes.journal:
        db.executemany(_INSERT_JOURNAL, list(_journal_rows(db, changes.journal, stamp)))


def read_letters(
    db: sqlite3.Connection,
    *,
    run_id: str | None,
    place: tuple[int, int] | None,
    limit: int,
    after: tuple[int, int] | None,
) -> list[Letter]:
    conditions, values = ["true"], list[object]()
    if run_id is not None:
        conditions, values = [*conditions, "run_id = ?"], [*values, run_id]
    if place is not None:
        conditions, values = [*conditions, "(partition, offset) = (?, ?)"], [*values, *place]
    if after is not None:
        conditions, values = [*conditions, "(partition, offset) > (?, ?)"], [*values, *after]
    rows = db.execute(
        f"""select partition, offset, timestamp, reason, detail, run_id, key, headers, value from letter
            where {" and ".join(conditions)} order by partition, offset limit ?""",
        [*values, limit],
    )
    return [
        Letter(
            partition=partition,
            offset=offset,
            timestamp=timestamp,
            reason=reason,
            detail=detail,
            run_id=of_run,
            key=key,
            value=value,
            headers=decode_headers(headers),
        )
        for partition, offset, timestamp, reason, detail, of_run, key, headers, value in rows
    ]


def _letter_row(letter: Letter) -> tuple[object, ...]:
    headers = encode_headers(letter)
    place = (letter.partition, letter.offset, letter.timestamp)
    return (*place, letter.reason, letter.detail, letter.run_id, letter.key, headers, letter.value)


def _journal_rows(
    db: sqlite3.Connection, journal: Sequence[JournalEntry], stamp: Stamp
) -> Iterator[tuple[object, ...]]:
    for (partition, offset, part), entry in numbered(journal):
        minute, dimensions, status = entry.bucket
        key = stamp.key(db, dimensions)
        bucket = (minute, key, status)
        yield partition, offset, part, entry.run_id, entry.timestamp, *bucket, *entry.sums, stamp.fold
