"""Usage rows: adding to them, reading and summing them, whatever the size of the sums.

SQLite's integers end at 63 bits, and a thousand runs that claim 2**53 tokens each end beyond. The table refuses such a sum;
the bucket then goes on in another row, with the next ``part``, and readers add the parts up. Nobody else pays for it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import Any, Final, NamedTuple

from runfold.fold.usage import SUMS, Dimensions
from runfold.store.sqlite_connection import insert_all
from runfold.store.summing import ordered
from runfold.store.usage_query import UsageQuery, UsageSum

_OTHERWISE: Final = f"on conflict do update set {', '.join(f'{name} = {name} + excluded.{name}' for name in SUMS)}"
_LARGEST: Final = 2**62
_PLAIN: Final = ", ".join(f"sum({name})" for name in SUMS)
_HALVES: Final = ", ".join(f"sum({name} >> 32), sum({name} & 4294967295)" for name in SUMS)


def add_usage(db: sqlite3.Connection, rows: Sequence[tuple[int, ...]]) -> None:
    """Add to buckets, in a transaction of the caller's: rows of minute, dimension, status, 0 and the sums, in order."""
    db.execute("savepoint usage_added")
    try:
        insert_all(db, "usage", rows, otherwise=_OTHERWISE)
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


def sum_usage(db: sqlite3.Connection, wanted: UsageQuery) -> list[UsageSum]:
    """As the port says: one walk over the minutes of each part. Sums that outgrow 63 bits are summed again, in halves."""
    behind = 1 + len(wanted.by)  # the part and its group
    try:
        rows = _sums(db, wanted, _PLAIN)
    except sqlite3.OperationalError as error:
        if "integer overflow" not in str(error):
            raise
    else:
        return ordered(UsageSum(row[0], row[1:behind], row[behind:]) for row in rows)
    halves = _sums(db, wanted, _HALVES)
    return ordered(UsageSum(row[0], row[1:behind], _whole(row[behind:])) for row in halves)


def _sums(db: sqlite3.Connection, wanted: UsageQuery, sums: str) -> list[tuple[Any, ...]]:
    """Rows of part, group and sums; a group's column is a dimension's or the status."""
    parts = _parts(wanted.edges)
    conditions, values = ["true"], list[str]()
    for name, listed in wanted.only.items():
        marks = ", ".join("?" * len(listed))
        conditions.append(f"usage.dimension in (select n from dimension where {name} in ({marks}))")
        values += listed
    named = set(wanted.by) & set(Dimensions._fields)
    return db.execute(
        f"""{parts.told} select {", ".join((parts.number, *wanted.by))}, {sums} from {parts.source}
            {"join dimension on dimension.n = usage.dimension" if named else ""}
            where {parts.bounds} and {" and ".join(conditions)} group by {", ".join((parts.order, *wanted.by))}""",
        (*parts.values, *values),
    ).fetchall()


class _Parts(NamedTuple):
    """How a query is told the parts: what stands before it, a part's number, where rows come from, by what they are grouped."""

    told: str
    number: str
    source: str
    bounds: str
    order: str
    values: tuple[object, ...]


def _parts(edges: Sequence[int]) -> _Parts:
    """Of parts that are minutes, which are told by their number alone, rows come in order: nothing has to be sorted."""
    if edges and edges[-1] - edges[0] == len(edges) - 1:
        bounds = "minute >= ? and minute < ?"
        return _Parts("", "minute - ?", "usage", bounds, "minute", (edges[0], edges[0], edges[-1]))
    told = """with part(part, first, behind) as
        (select key, json_extract(value, '$[0]'), json_extract(value, '$[1]') from json_each(?))"""
    source = "part cross join usage on minute >= first and minute < behind"
    return _Parts(told, "part.part", source, "true", "part.part", (json.dumps(list(pairwise(edges))),))


def _whole(halves: Sequence[int]) -> tuple[int, ...]:
    return tuple((high << 32) + low for high, low in zip(halves[::2], halves[1::2], strict=True))


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
        insert_all(db, "usage", [row], otherwise=_OTHERWISE)
    except sqlite3.IntegrityError:
        return False  # a sum would not be whole any more
    return True
