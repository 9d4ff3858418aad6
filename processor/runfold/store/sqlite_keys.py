"""Where a run's row is: keys of run ids and of thread ids, in two levels. What may change here is how, not what is found.

Ids are random. In one big index nearly every new row dirties a page of its own, which is written to the write-ahead log and
then to the file: with 2,000,000 runs that cost 7 µs an event, four times everything else (docs/decisions/0011). So new keys
go to a small *young* table, whose few pages every batch shares; a hand walks round it, and moves the keys behind it, in
order, into the *settled* table, where neighbours share a page again. A key is 47 bits of a hash (6 bytes in SQLite's
records): it only says where to look; the row says whether it is the right one.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Final

from xxhash import xxh3_64_intdigest

from runfold.store.sqlite_connection import insert_all

YOUNG: Final = 100_000
"""How many keys stay young. Fewer and the hand dirties more settled pages a batch; more and new keys dirty more young ones."""

Key = tuple[int, ...]
_SIZES: Final = (1, 16, 32, 128, 1024)
_LEVELS: Final = ("young", "settled")
_BITS: Final = 0x7FFF_FFFF_FFFF


def key_hash(text: str) -> int:
    return xxh3_64_intdigest(text.encode()) & _BITS


def key_hashes(texts: Iterable[str]) -> list[int]:
    """Those of many texts, without a call for each."""
    return [xxh3_64_intdigest(data) & _BITS for data in map(str.encode, texts)]


class KeyTable:
    """One of the two key tables. A key is (hash, n) or (hash, created_at, n): ``n`` is the row it leads to."""

    def __init__(self, name: str, *, width: int) -> None:
        self.name = name
        self._matches = "hash = ? and n = ?" if width == 2 else "hash = ? and created_at = ? and n = ?"

    def add(self, db: sqlite3.Connection, keys: Iterable[Key], *, young: int = YOUNG) -> None:
        """Add keys, in a transaction of the caller's, and settle as many old ones as are too many."""
        ordered = sorted(keys, key=itemgetter(0))  # by the number alone, for comparing tuples takes longer
        if not ordered:
            return
        insert_all(db, f"{self.name}_young", ordered)
        count, hand = self._level(db)
        count += len(ordered)
        # A slice is not worth the pages that it dirties until it is some size.
        if count > young + young // 50:
            count, hand = self._settle(db, most=young, count=count, hand=hand)
        db.execute("update key_level set young = ?, hand = ? where name = ?", (count, hand, self.name))

    def remove(self, db: sqlite3.Connection, keys: Iterable[Key]) -> None:
        """Take keys out of whichever level they are in, in a transaction of the caller's."""
        for key in keys:
            young, _ = (
                db.execute(f"delete from {self.name}_{level} where {self._matches}", key).rowcount for level in _LEVELS
            )
            db.execute("update key_level set young = young - ? where name = ?", (young, self.name))

    def _level(self, db: sqlite3.Connection) -> tuple[int, int]:
        count, hand = db.execute("select young, hand from key_level where name = ?", (self.name,)).fetchone()
        return count, hand

    def _settle(self, db: sqlite3.Connection, *, most: int, count: int, hand: int) -> tuple[int, int]:
        """Move the hand on until no more than ``most`` keys are young; returns how many are, and where it stands."""
        while count > most:
            (upto,) = db.execute(
                f"select max(hash) from (select hash from {self.name}_young where hash > ? order by hash limit ?)",
                (hand, count - most),
            ).fetchone()
            if upto is None and hand == -1:
                return 0, -1
            if upto is None:
                hand = -1  # past the last one: round again
                continue
            slice_ = (hand, upto)
            db.execute(
                f"insert into {self.name}_settled select * from {self.name}_young where hash > ? and hash <= ? order by hash",
                slice_,
            )
            count -= db.execute(f"delete from {self.name}_young where hash > ? and hash <= ?", slice_).rowcount
            hand = upto
        return count, hand


RUN_KEYS: Final = KeyTable("run_key", width=2)
THREAD_KEYS: Final = KeyTable("thread_key", width=3)


Row = tuple[int, int, str, int, bytes]
"""n, partition, run_id, flags, body."""


def rows_of(db: sqlite3.Connection, run_ids: Sequence[str], *, project_id: str | None = None) -> Iterator[Row]:
    """The rows with these run ids, whichever partition they are in; only those of the project, if given.

    About 1 µs for an id that has no row. A hash is shared by chance once in 100 trillion: ids are compared here.
    """
    wanted = {key_hash(run_id): run_id for run_id in run_ids}
    if len(wanted) < len(set(run_ids)):  # two of them share a hash
        for run_id in set(run_ids):
            yield from rows_of(db, [run_id], project_id=project_id)
        return
    hashes = sorted(wanted)  # neighbours in the table are asked for one after the other
    for start in range(0, len(hashes), _SIZES[-1]):
        for row in _rows_with(db, hashes[start : start + _SIZES[-1]], project_id):
            if wanted.get(key_hash(row[2])) == row[2]:
                yield row


def with_twins(db: sqlite3.Connection, run_ids: Sequence[str]) -> list[str]:
    """Those run ids whose key leads to more than one row, as the keys alone tell: by chance, or in several partitions.

    ``run_ids`` have rows. There are nearly always as many keys, and to count them costs less than to read them.
    """
    hashes = key_hashes(run_ids)
    twice = set[int]()
    for start in range(0, len(hashes), _SIZES[-1]):
        part = hashes[start : start + _SIZES[-1]]
        size = next(size for size in _SIZES if size >= len(part))
        values = [*part, *[-1] * (size - len(part))]
        (count,) = db.execute(_COUNTS[size], values).fetchone()
        if count > len(set(part)):
            rows = Counter(hashed for (hashed,) in db.execute(_KEYS[size], values))
            twice.update(hashed for hashed, times in rows.items() if times > 1)
    return [run_id for run_id, hashed in zip(run_ids, hashes, strict=True) if hashed in twice] if twice else []


def _rows_with(db: sqlite3.Connection, hashes: list[int], project_id: str | None) -> list[Row]:
    size = next(size for size in _SIZES if size >= len(hashes))
    # One prepared statement for each size: the rest is filled up with a hash that no key has.
    values: list[int | str] = [*hashes, *[-1] * (size - len(hashes))]
    if project_id is None:
        return db.execute(_STATEMENTS[size], values).fetchall()
    return db.execute(_OF_PROJECT[size], [*values, project_id]).fetchall()


def _statement(size: int, *, confined: str = "") -> str:
    marks = ", ".join(f"?{number}" for number in range(1, size + 1))
    return " union all ".join(
        # cross join: SQLite is not to choose another order.
        f"""select run.n, run.partition, run.run_id, run.flags, run.body from run_key_{level} as key
            cross join run on run.n = key.n where key.hash in ({marks}){confined}"""
        for level in _LEVELS
    )


_STATEMENTS: Final = {size: _statement(size) for size in _SIZES}
_OF_HASHES: Final = {
    size: [f"run_key_{level} where hash in ({', '.join(f'?{n}' for n in range(1, size + 1))})" for level in _LEVELS]
    for size in _SIZES
}
_KEYS: Final = {size: " union all ".join(f"select hash from {each}" for each in of) for size, of in _OF_HASHES.items()}
_COUNTS: Final = {
    size: f"select {' + '.join(f'(select count(*) from {each})' for each in of)}" for size, of in _OF_HASHES.items()
}
_OF_PROJECT: Final = {
    size: _statement(
        size,
        confined=f" and exists (select 1 from dimension as d where d.n = run.dimension and d.project_id = ?{size + 1})",
    )
    for size in _SIZES
}
