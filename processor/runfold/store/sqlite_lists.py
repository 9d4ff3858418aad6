"""Lists of runs in the SQLite store. Each walks an index either way: none grows with the number of runs."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from runfold.fold.outcome import Flag
from runfold.store.port import RunFilter, RunPage, StoredRun
from runfold.store.split import chosen
from runfold.store.sqlite_keys import key_hash, rows_of, with_twins
from runfold_schemas import RunStatus

LOOKED_AT: Final = 1_000
"""Rows that browsing looks at between two looks at the clock: about 10 ms."""

_Place = tuple[int, str, int]
"""created_at, run_id, partition."""

_ORDERS: Final = {
    ascending: f"order by created_at {way}, run_id {way}, partition {way} limit ?"
    for ascending, way in ((False, "desc"), (True, "asc"))
}
_OF_THREAD: Final = tuple(
    f"thread_key_{level} as key cross join run on run.n = key.n where hash = ? and thread_id = ?"
    for level in ("young", "settled")
)
_PAST_ALL_PARTITIONS: Final = 1 << 40


class ListedRow(NamedTuple):
    """A row as lists read it; ``body`` is None where it was looked at and is not wanted."""

    n: int
    partition: int
    run_id: str
    flags: int
    body: bytes | None
    created_at: int = 0

    @property
    def place(self) -> _Place:
        return self.created_at, self.run_id, self.partition

    def stored(self) -> StoredRun:
        assert self.body is not None
        return StoredRun(partition=self.partition, run_id=self.run_id, handle=self.n, body=self.body)


_listed: Callable[[Any], ListedRow] = partial(tuple.__new__, ListedRow)  # half the cost of ListedRow._make


class _Selection(NamedTuple):
    """What is read of a walk: what stands for the body, which rows, and the values of both."""

    body: str
    of_body: list[object]
    conditions: list[str]
    values: list[object]


class _Walk(NamedTuple):
    """One index to walk: what stands after ``from``, its values, and the column that the walk is ordered by."""

    source: str
    values: tuple[object, ...] = ()
    ordered_by: str = "run.created_at"


def list_runs(db: sqlite3.Connection, wanted: RunFilter) -> list[StoredRun]:
    """As the port says; a page that loses rows to their twins in other partitions is filled up."""
    if not _dimensions_exist(db, wanted):
        return []
    selection = _selection(wanted)
    found: list[ListedRow] = []
    after = _begin(wanted)
    while (missing := wanted.limit - len(found)) > 0:
        page = _page(db, wanted, selection, after=after, limit=missing)
        found += _speaking(db, wanted, page)
        if len(page) < missing:
            break
        after = page[-1].place
    return [row.stored() for row in found]


def browse_runs(db: sqlite3.Connection, wanted: RunFilter, *, seconds: float) -> RunPage:
    """As the port says: rows are looked at in chunks, and those that are not wanted come without their bodies."""
    if not _dimensions_exist(db, wanted):
        return RunPage(rows=[], next=None)
    deadline, selection = time.monotonic() + seconds, _browsing(wanted)
    found: list[ListedRow] = []
    after = _begin(wanted)
    while True:
        looked = _page(db, wanted, selection, after=after, limit=LOOKED_AT)
        found += _speaking(db, wanted, [row for row in looked if row.body is not None])
        if len(found) >= wanted.limit:
            last = found[wanted.limit - 1]
            return RunPage(rows=[row.stored() for row in found[: wanted.limit]], next=last.place[:2])
        ended = len(looked) < LOOKED_AT
        if ended or time.monotonic() > deadline:
            return RunPage(rows=[row.stored() for row in found], next=None if ended else looked[-1].place[:2])
        after = looked[-1].place


def _begin(wanted: RunFilter) -> _Place | None:
    return None if wanted.after is None else (*wanted.after, _PAST_ALL_PARTITIONS if wanted.ascending else -1)


def _speaking(db: sqlite3.Connection, wanted: RunFilter, rows: list[ListedRow]) -> list[ListedRow]:
    """Those rows that speak for their runs: nearly all, for few runs have a row in another partition too."""
    doubtful = with_twins(db, [row.run_id for row in rows])
    if not doubtful:
        return rows
    twins = rows_of(db, doubtful, project_id=wanted.project_id)
    speaking = chosen(ListedRow(*row) for row in twins)
    return [row for row in rows if row.run_id not in speaking or speaking[row.run_id].n == row.n]


def _dimensions_exist(db: sqlite3.Connection, wanted: RunFilter) -> bool:
    """Whether any run can match: a name that was never seen must not cost a walk over all runs."""
    names = (wanted.model, wanted.assistant_id, wanted.project_id)
    if names == (None, None, None):
        return True
    (exist,) = db.execute(
        """select exists (select 1 from dimension where model = ifnull(?, model)
            and assistant_id = ifnull(?, assistant_id) and project_id = ifnull(?, project_id))""",
        names,
    ).fetchone()
    return bool(exist)


def _page(
    db: sqlite3.Connection, wanted: RunFilter, selection: _Selection, *, after: _Place | None, limit: int
) -> list[ListedRow]:
    walks, bound = [], list[object]()
    order, (behind, ahead) = _ORDERS[wanted.ascending], (">", "<") if wanted.ascending else ("<", ">")
    for source, of_source, created_at in _walks(wanted):
        where, bounds = selection.conditions, list[object]()
        for place, beyond in ((after, behind), (wanted.before, ahead)):
            if place is not None:
                # The first condition is where the walk over the index begins or ends; the second decides among its ties.
                columns, marks = ("run_id, partition", "?, ?, ?") if len(place) == 3 else ("run_id", "?, ?")
                where = [*where, f"{created_at} {beyond}= ?", f"({created_at}, {columns}) {beyond} ({marks})"]
                bounds += [place[0], *place]
        walks.append(
            f"""select run.n, partition, run_id, flags, {selection.body} as body, {created_at} as created_at
                from {source} and {" and ".join(where)}"""
        )
        bound += [*selection.of_body, *of_source, *selection.values, *bounds]
    # SQLite merges the walks, each going on for as long as rows are wanted of it: it would sort what stands in brackets.
    rows = db.execute(f"{' union all '.join(walks)} {order}", [*bound, limit])
    return list(map(_listed, rows))


def _walks(wanted: RunFilter) -> list[_Walk]:
    """The narrowest index that has the order; without a filter one walk for each status, merged."""
    if wanted.thread_id is not None:
        return [
            _Walk(source, (key_hash(wanted.thread_id), wanted.thread_id), "key.created_at") for source in _OF_THREAD
        ]
    if wanted.incomplete or wanted.missing or wanted.flagged:
        return [_Walk("run indexed by run_flagged where flags != 0")]
    statuses = [
        status for status in RunStatus if wanted.status in (None, status) and wanted.open in (None, not status.ended)
    ]
    if not statuses:  # an ended one that is open
        return [_Walk("run where false")]
    return [_Walk("run indexed by run_by_status where status = ?", (status,)) for status in statuses]


def _selection(wanted: RunFilter) -> _Selection:
    """Only the rows that are wanted."""
    (conditions, values), (named, names) = _conditions(wanted), _named(wanted)
    return _Selection("body", [], ["true", *conditions, *named], [*values, *names])


def _browsing(wanted: RunFilter) -> _Selection:
    """All rows that an index finds; the body only of those that are wanted."""
    (conditions, values), (named, names) = _conditions(wanted), _named(wanted)
    return _Selection(f"case when {' and '.join(['true', *named])} then body end", names, ["true", *conditions], values)


def _conditions(wanted: RunFilter) -> tuple[list[str], list[object]]:
    """What can be told by the columns that indexes have."""
    conditions, values = list[str](), list[object]()
    if wanted.status is not None:
        conditions, values = ["status = ?"], [wanted.status]
    if wanted.open is not None:
        conditions, values = [*conditions, "(status < ?) = ?"], [*values, int(RunStatus.CANCELLED), wanted.open]
    for mask, given in ((Flag.INCOMPLETE, wanted.incomplete), (Flag.MISSING, wanted.missing), (-1, wanted.flagged)):
        if given is not None:
            conditions, values = [*conditions, "(flags & ? != 0) = ?"], [*values, int(mask), given]
    return conditions, values


def _named(wanted: RunFilter) -> tuple[list[str], list[object]]:
    """What only a row's dimensions tell."""
    names = {"model": wanted.model, "assistant_id": wanted.assistant_id, "project_id": wanted.project_id}
    given = {column: value for column, value in names.items() if value is not None}
    found = "exists (select 1 from dimension as d where d.n = run.dimension and d.{} = ?)"
    return [found.format(column) for column in given], list(given.values())
