"""The queries of a SQLite log. Each function reads what it reads to the end, so that no read stays open behind it.

Offsets are the tables' row ids and timestamps rise with them, which is why no query needs an index. Nothing is ever
deleted by runfold; where somebody has cut off the beginning, asking for it is answered with RangeLost.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice, repeat
from operator import add, itemgetter
from typing import Any

import msgspec

from runfold.fold.record import Record, StoredRecord
from runfold.log.port import Range, RangeLost

LONGEST_SCAN = 100_000
"""Offsets one query may cross, so that a search for a rare key does not hold the WAL for seconds."""

_FIRST_CHUNK = 16
_EVER = 2**62
_NO_HEADERS = ((),)
_value = itemgetter(3)
_decode_headers = msgspec.msgpack.Decoder(list[tuple[str, bytes | None]]).decode
_stored: Callable[[Any], StoredRecord] = partial(tuple.__new__, StoredRecord)  # half the cost of StoredRecord._make


class Limit:
    """How much may still be read: ``records``, and ``size`` bytes of values; one record is always allowed."""

    def __init__(self, *, records: int, size: int) -> None:
        self.records, self.size = records, size
        self._untouched = True

    def share(self, among: int) -> Limit:
        """An equal part of what is left."""
        part = Limit(records=-(-self.records // among), size=self.size // among)
        part._untouched = self._untouched
        return part

    def admit(self, records: list[StoredRecord]) -> int:
        """How many of the records fit, in order; they are taken off what is left."""
        size = sum(map(len, filter(None, map(_value, records))))
        fitting = len(records) if size <= self.size else self._fitting(records)
        if fitting < len(records):
            size = sum(map(len, filter(None, map(_value, records[:fitting]))))
        self.take(fitting, size)
        return fitting

    def _fitting(self, records: list[StoredRecord]) -> int:
        left = self.size
        for index, record in enumerate(records):
            left -= len(record.value or b"")
            if left < 0:
                return max(index, 1) if self._untouched else index
        return len(records)

    def take(self, records: int, size: int) -> None:
        self.records -= records
        self.size -= size
        if records:
            self._untouched = False


def batch(file: sqlite3.Connection, positions: Mapping[int, int], limit: Limit) -> dict[int, list[Record]]:
    """The next records of each partition, shared out equally; what one partition leaves over goes to the others."""
    found: dict[int, list[Record]] = {}
    hungry = dict(positions)
    while hungry and limit.records > 0:
        still_hungry = {}
        for served, (partition, position) in enumerate(hungry.items()):
            share = limit.share(len(hungry) - served)
            before = share.records, share.size
            more = records(file, partition, begin=position, end=_EVER, limit=share)
            limit.take(before[0] - share.records, before[1] - share.size)
            if not more:
                continue  # at its end, or no room is left for it this time
            found.setdefault(partition, []).extend(more)
            if share.records <= 0:
                still_hungry[partition] = more[-1].offset + 1
        hungry = still_hungry
    return found


def records(
    file: sqlite3.Connection, partition: int, *, begin: int, end: int, limit: Limit, key: bytes | None = None
) -> list[StoredRecord]:
    """Records from ``begin`` up to ``end``, of one key if given. Raises RangeLost where the log begins behind ``begin``."""
    of_key, bound = ("", (begin, end)) if key is None else ("AND key = ?", (begin, end, key))
    rows = file.execute(
        f"SELECT offset, timestamp, key, value FROM partition_{partition}"
        f" WHERE offset >= ? AND offset < ? {of_key} ORDER BY offset",
        bound,
    )
    try:
        found = _take(rows, limit)
    finally:
        rows.close()  # or the statement would hold its read transaction until somebody collects it
    if not found or found[0].offset > begin:
        _check_begin(file, partition, begin)
    return _with_headers(file, partition, found) if found else found


def _take(rows: Iterator[tuple[Any, ...]], limit: Limit) -> list[StoredRecord]:
    """As many rows as the limit admits, by chunks sized after the rows seen so far: a batch of huge values stays small."""
    found: list[StoredRecord] = []
    chunk, room = _FIRST_CHUNK, limit.size
    while limit.records > 0:
        asked = min(chunk, limit.records)
        more = list(map(_stored, map(add, islice(rows, asked), repeat(_NO_HEADERS))))
        fitting = limit.admit(more)
        found += more[:fitting] if fitting < len(more) else more
        if fitting < asked or limit.size <= 0:
            break
        chunk = max(1, limit.size * len(found) // max(1, room - limit.size))
    return found


def _with_headers(file: sqlite3.Connection, partition: int, found: list[StoredRecord]) -> list[StoredRecord]:
    first, last = found[0].offset, found[-1].offset
    headers = dict(
        file.execute(
            f"SELECT offset, headers FROM partition_{partition} WHERE headers IS NOT NULL AND offset BETWEEN ? AND ?",
            (first, last),
        ).fetchall()
    )
    if not headers:
        return found
    return [
        record._replace(headers=_decode_headers(headers[record.offset])) if record.offset in headers else record
        for record in found
    ]


def _check_begin(file: sqlite3.Connection, partition: int, wanted: int) -> None:
    begin = range_of(file, partition).begin
    if wanted < begin:
        raise RangeLost(partition=partition, wanted=wanted, begin=begin)


def range_of(file: sqlite3.Connection, partition: int) -> Range:
    """Begin and end of a partition."""
    table = f"partition_{partition}"
    begin, end = file.execute(
        f"SELECT (SELECT min(offset) FROM {table}), (SELECT max(offset) + 1 FROM {table})"
    ).fetchone()
    return Range(begin or 0, end or 0)


def end_and_time(file: sqlite3.Connection, partition: int) -> tuple[int, int]:
    """The partition's end, and the timestamp of its last record (0 where it has none)."""
    last = file.execute(f"SELECT offset, timestamp FROM partition_{partition} ORDER BY offset DESC LIMIT 1").fetchone()
    return (last[0] + 1, last[1]) if last else (0, 0)


def offset_for_time(file: sqlite3.Connection, partition: int, time: int) -> int:
    """The first offset stamped at or after ``time``, else the end; found by halving, since stamps rise with offsets."""
    low, high = range_of(file, partition)
    while low < high:
        middle = (low + high) // 2
        (timestamp,) = file.execute(
            f"SELECT timestamp FROM partition_{partition} WHERE offset >= ? ORDER BY offset LIMIT 1", (middle,)
        ).fetchone()
        low, high = (low, middle) if timestamp >= time else (middle + 1, high)
    return low
