"""Where two stores first differ, in words: what verify says when two digests are not the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import aclosing
from itertools import zip_longest
from typing import Any, Final

from msgspec import DecodeError, Struct, msgpack

from runfold.store.digest import in_chunks
from runfold.store.snapshot import JOURNAL_COLUMNS, LETTER_COLUMNS, RUN_COLUMNS, USAGE_COLUMNS, Row, StoreSnapshot

_KEY_WIDTH: Final = {"run": 1, "letter": 1, "journal": 2, "usage": USAGE_COLUMNS.index("status") + 1}
_fields = msgpack.Decoder(list[Any]).decode


class Difference(Struct, frozen=True, kw_only=True):
    """The first row that differs. ``field`` is None where one side has no such row: then that side's value is None too.

    ``table`` is run, letter, journal, position or usage; ``key`` the run id, the offset, (offset, part), or the bucket.
    A field inside a run's body is named body[n], by its place there.
    """

    table: str
    key: object
    field: str | None
    left: object
    right: object


async def first_difference(left: StoreSnapshot, right: StoreSnapshot, *, partition: int) -> Difference | None:
    """The first difference in what the digest of a partition covers: runs by run_id, then letters, journal, position."""
    found = (
        await _first("run", RUN_COLUMNS, left=left.runs(partition), right=right.runs(partition))
        or await _first("letter", LETTER_COLUMNS, left=left.letters(partition), right=right.letters(partition))
        or await _first("journal", JOURNAL_COLUMNS, left=left.journal(partition), right=right.journal(partition))
    )
    if found is not None:
        return found
    here, there = [(await side.positions()).get(partition) for side in (left, right)]
    if here == there:
        return None
    return Difference(table="position", key=partition, field="position", left=here, right=there)


async def first_usage_difference(left: StoreSnapshot, right: StoreSnapshot) -> Difference | None:
    """The first bucket that differs."""
    return await _first("usage", USAGE_COLUMNS, left=left.usage(), right=right.usage())


async def _first(table: str, columns: Sequence[str], *, left: Iterator[Row], right: Iterator[Row]) -> Difference | None:
    width = _KEY_WIDTH[table]
    async with aclosing(in_chunks(side_by_side(left, right, width))) as chunks:
        async for chunk in chunks:
            for here, there in chunk:
                if here != there:
                    return _told(table, columns, here, there)
    return None


def side_by_side(left: Iterator[Row], right: Iterator[Row], width: int) -> Iterator[tuple[Row | None, Row | None]]:
    """Merge two iterators that are ordered by their first ``width`` columns: rows of the same key stand together."""
    here, there = next(left, None), next(right, None)
    while here is not None or there is not None:
        if there is None or (here is not None and here[:width] < there[:width]):
            yield here, None
            here = next(left, None)
        elif here is None or there[:width] < here[:width]:
            yield None, there
            there = next(right, None)
        else:
            yield here, there
            here, there = next(left, None), next(right, None)


def _told(table: str, columns: Sequence[str], here: Row | None, there: Row | None) -> Difference:
    some = here or there or ()
    width = _KEY_WIDTH[table]
    key = some[0] if width == 1 else some[:width]
    if here is None or there is None:
        return Difference(table=table, key=key, field=None, left=here, right=there)
    field, left, right = next((name, a, b) for name, a, b in zip(columns, here, there, strict=True) if a != b)
    if field == "body":
        field, left, right = _inside(left, right)
    return Difference(table=table, key=key, field=field, left=left, right=right)


def _inside(left: object, right: object) -> tuple[str, object, object]:
    """The first field of two encoded bodies that differs, or the bodies where they cannot be read as a list of fields."""
    assert isinstance(left, bytes)
    assert isinstance(right, bytes)
    try:
        here, there = _fields(left), _fields(right)
    except (DecodeError, ValueError, RecursionError):  # a broken body is what verify looks for
        return "body", left, right
    pairs = enumerate(zip_longest(here, there))
    return next(((f"body[{n}]", a, b) for n, (a, b) in pairs if a != b), ("body", left, right))
