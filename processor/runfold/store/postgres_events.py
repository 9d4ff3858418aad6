"""Dead letters and journal in the PostgreSQL store: rows that are keyed by a record's place in the log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from asyncpg import Record

from runfold.fold.changes import JournalEntry, Letter
from runfold.fold.usage import SUMS
from runfold.store.postgres_connection import Session
from runfold.store.postgres_rows import key_of, stored_text, told_text
from runfold.store.postgres_stamp import Stamp
from runfold.store.rows import decode_headers, encode_headers, numbered
from runfold.store.snapshot import Row

_INSERT_LETTERS: Final = """insert into letter select * from unnest($1::integer[], $2::bigint[], $3::bigint[], $4::text[],
    $5::text[], $6::bigint[], $7::text[], $8::bytea[], $9::bytea[], $10::bytea[])"""
_JOURNAL_TYPES: Final = (
    *("integer", "bigint", "integer", "bigint", "text", "bigint", "bigint", "integer", "smallint"),
    *("bigint" for _ in SUMS),
    "integer",
)
_INSERT_JOURNAL: Final = (
    f"insert into journal select * from unnest({', '.join(f'${n}::{t}[]' for n, t in enumerate(_JOURNAL_TYPES, 1))})"
)


def columns_of(rows: Iterable[Row]) -> list[list[object]]:
    """Rows turned into columns, as ``unnest`` takes them. There has to be a row."""
    return [list(column) for column in zip(*rows, strict=True)]


async def write_letters(session: Session, letters: Sequence[Letter]) -> None:
    """Insert a batch's letters, in a transaction of the caller's."""
    if letters:
        ordered = sorted(letters, key=lambda letter: (letter.partition, letter.offset))
        await session.connection.execute(_INSERT_LETTERS, *columns_of(map(_letter_row, ordered)))


async def write_journal(session: Session, journal: Sequence[JournalEntry], stamp: Stamp) -> None:
    """Insert a batch's journal entries, in a transaction of the caller's."""
    if journal:
        rows = [_journal_row(place, entry, stamp) for place, entry in numbered(journal)]
        await session.connection.execute(_INSERT_JOURNAL, *columns_of(rows))


async def read_letters(
    session: Session,
    *,
    run_id: str | None,
    place: tuple[int, int] | None,
    limit: int,
    after: tuple[int, int] | None,
) -> list[Letter]:
    conditions, values = ["true"], list[object]()
    if run_id is not None:
        conditions, values = ["run_key = $1 and run_id = $2"], [key_of(run_id), stored_text(run_id)]
    for place_given, compared in ((place, "="), (after, ">")):
        if place_given is not None:
            first = len(values) + 1
            conditions.append(f"(partition, log_offset) {compared} (${first}, ${first + 1})")
            values += place_given
    statement = f"""select partition, log_offset, timestamp, reason, detail, run_id, key, headers, value from letter
        where {" and ".join(conditions)} order by partition, log_offset limit ${len(values) + 1}"""
    async with session.glancing():
        return [_letter(row) for row in await session.connection.fetch(statement, *values, limit)]


async def count_letters(session: Session) -> dict[str, int]:
    async with session.glancing():
        rows = await session.connection.fetch("select reason, count(*) from letter group by reason order by reason")
    return {told_text(reason): count for reason, count in rows}


def _letter(row: Record) -> Letter:
    partition, offset, timestamp, reason, detail, run_id, key, headers, value = row
    return Letter(
        partition=partition,
        offset=offset,
        timestamp=timestamp,
        reason=told_text(reason),
        detail=told_text(detail),
        run_id=None if run_id is None else told_text(run_id),
        key=key,
        value=value,
        headers=decode_headers(headers),
    )


def _letter_row(letter: Letter) -> Row:
    run_id = letter.run_id
    told = stored_text(letter.reason), stored_text(letter.detail)
    of_run = (None, None) if run_id is None else (key_of(run_id), stored_text(run_id))
    place = letter.partition, letter.offset, letter.timestamp
    return (*place, *told, *of_run, letter.key, encode_headers(letter), letter.value)


def _journal_row(place: tuple[int, int, int], entry: JournalEntry, stamp: Stamp) -> Row:
    minute, dimensions, status = entry.bucket
    of_run = key_of(entry.run_id), stored_text(entry.run_id)
    return (*place, *of_run, entry.timestamp, minute, stamp.key(dimensions), status, *entry.sums, stamp.fold)
