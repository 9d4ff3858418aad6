"""Comparing a rebuilt store with the live one: digests, and where they differ, how many runs and how much usage, by field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import zip_longest
from typing import Any, Final, NamedTuple

from msgspec import Struct, field, msgpack

from runfold.fold.state import RunState
from runfold.fold.usage import SUMS
from runfold.replay.take_over import state_of
from runfold.store.difference import side_by_side
from runfold.store.digest import StoreDigest, digest, in_chunks
from runfold.store.port import Store
from runfold.store.snapshot import JOURNAL_COLUMNS, LETTER_COLUMNS, RUN_COLUMNS, USAGE_COLUMNS, Row, StoreSnapshot
from runfold_schemas.codec import UNREADABLE

EXAMPLES: Final = 20
_BODY: Final = RUN_COLUMNS.index("body")
_fields = msgpack.Decoder(list[Any]).decode


class RowDifference(Struct, frozen=True, kw_only=True):
    """One row that differs: ``fields`` maps each field that does to [in the live store, rebuilt].

    Without fields one side has no such row, and ``only`` says which one has it: live or rebuilt.
    """

    partition: int | None
    table: str
    key: object
    only: str | None = None
    fields: dict[str, tuple[Any, Any]] = {}


class TableDifference(Struct, kw_only=True):
    """How many rows of a table differ: in one store alone, or in some field, and in which ones how many."""

    only_live: int = 0
    only_rebuilt: int = 0
    changed: int = 0
    fields: Counter[str] = field(default_factory=Counter)

    def add(self, difference: RowDifference) -> None:
        """Count one more row."""
        self.only_live += difference.only == "live"
        self.only_rebuilt += difference.only == "rebuilt"
        self.changed += difference.only is None
        self.fields.update(difference.fields.keys())

    @property
    def rows(self) -> int:
        return self.only_live + self.only_rebuilt + self.changed


class Comparison(Struct, kw_only=True):
    """Two stores at the same positions. Where their digests are equal, all else is empty.

    ``usage`` is by how much the rebuilt store's sums differ in total, by their names. ``examples`` are the first rows that
    differ, EXAMPLES at most of each table.
    """

    positions: dict[int, int]
    live: StoreDigest
    rebuilt: StoreDigest
    tables: dict[str, TableDifference]
    usage: dict[str, int]
    examples: list[RowDifference]

    @property
    def identical(self) -> bool:
        return self.live == self.rebuilt


async def compare(live: StoreSnapshot, rebuilt: StoreSnapshot) -> Comparison:
    """Digests of both, and every row that differs, counted; memory does not grow with the stores."""
    found = Comparison(
        positions=await live.positions(),
        live=await digest(live),
        rebuilt=await digest(rebuilt),
        tables={},
        usage={},
        examples=[],
    )
    if found.identical:
        return found
    for which in sorted(found.live.partitions.keys() | found.rebuilt.partitions.keys()):
        if found.live.partitions.get(which) == found.rebuilt.partitions.get(which):
            continue
        for table in (_RUN, _LETTER, _JOURNAL):
            await _count(
                found, table, side_by_side(table.read(live, which), table.read(rebuilt, which), table.width), which
            )
    if found.live.usage != found.rebuilt.usage:
        pairs = side_by_side(live.usage(), rebuilt.usage(), _USAGE.width)
        totals: dict[str, int] = dict.fromkeys(SUMS, 0)
        await _count(found, _USAGE, _totalled(pairs, totals, _USAGE.width), None)
        found.usage = {name: total for name, total in totals.items() if total}
    return found


async def compare_run(live: Store, rebuilt: Store, run_id: str) -> list[RowDifference]:
    """Where the rows of one run differ, by partition; empty where they are the same."""
    sides = [{row.partition: row.body for row in await store.find_run(run_id)} for store in (live, rebuilt)]
    here, there = sides
    found = []
    for which in sorted(here.keys() | there.keys()):
        told: dict[str, Any] = {"partition": which, "table": _RUN.name, "key": run_id}
        if which not in here or which not in there:
            found.append(RowDifference(**told, only="live" if which in here else "rebuilt"))
        elif here[which] != there[which]:
            found.append(RowDifference(**told, fields=_inside(here[which], there[which])))
    return found


async def count_unverifiable(live: StoreSnapshot, begins: Mapping[int, int]) -> int:
    """How many runs have records below these begins of their partitions."""
    count = 0
    async for chunk in in_chunks(live.scan_runs()):
        for partition, row in chunk:
            begin = begins.get(partition)
            if begin is None:
                continue
            state = state_of(row[_BODY])
            count += state is not None and state.first_offset < begin
    return count


class _Table(NamedTuple):
    """A table, its columns, how many of them are its key, and how a snapshot's rows of a partition are read."""

    name: str
    columns: tuple[str, ...]
    width: int
    read: Callable[[StoreSnapshot, int], Iterator[Row]]


_RUN: Final = _Table("run", RUN_COLUMNS, 1, lambda view, which: view.runs(which))
_LETTER: Final = _Table("letter", LETTER_COLUMNS, 1, lambda view, which: view.letters(which))
_JOURNAL: Final = _Table("journal", JOURNAL_COLUMNS, 2, lambda view, which: view.journal(which))
_USAGE: Final = _Table("usage", USAGE_COLUMNS, len(USAGE_COLUMNS) - len(SUMS), lambda view, _: view.usage())
_Pairs = Iterator[tuple[Row | None, Row | None]]


async def _count(found: Comparison, table: _Table, pairs: _Pairs, partition: int | None) -> None:
    counted = found.tables.setdefault(table.name, TableDifference())
    async for chunk in in_chunks(pairs):
        for here, there in chunk:
            if here == there:
                continue
            difference = _difference(table, here, there, partition)
            counted.add(difference)
            if counted.rows <= EXAMPLES:
                found.examples.append(difference)


def _difference(table: _Table, here: Row | None, there: Row | None, partition: int | None) -> RowDifference:
    some = here or there or ()
    key = some[0] if table.width == 1 else some[: table.width]
    if here is None or there is None:
        only = "rebuilt" if here is None else "live"
        return RowDifference(partition=partition, table=table.name, key=key, only=only)
    return RowDifference(partition=partition, table=table.name, key=key, fields=_changed(table.columns, here, there))


def _changed(columns: tuple[str, ...], here: Row, there: Row) -> dict[str, tuple[Any, Any]]:
    """The columns that differ; of a run's body its fields, unless a column tells the same."""
    changed: dict[str, tuple[Any, Any]] = {
        name: (a, b) for name, a, b in zip(columns, here, there, strict=True) if a != b and name != "body"
    }
    if "body" in columns and here[_BODY] != there[_BODY]:
        inside = _inside(here[_BODY], there[_BODY])
        changed |= {name: values for name, values in inside.items() if name not in changed}
    return changed


def _inside(here: Any, there: Any) -> dict[str, tuple[Any, Any]]:
    names = RunState.__struct_fields__
    try:
        pairs = list(zip_longest(_fields(here), _fields(there)))
    except UNREADABLE:
        return {"body": (here, there)}
    changed = {names[place] if place < len(names) else "body": (a, b) for place, (a, b) in enumerate(pairs) if a != b}
    return changed or {"body": (here, there)}


def _totalled(pairs: _Pairs, totals: dict[str, int], width: int) -> _Pairs:
    for here, there in pairs:
        for place, name in enumerate(SUMS, width):
            before, after = (0 if side is None else side[place] for side in (here, there))
            totals[name] += after - before  # type: ignore[operator]
        yield here, there
