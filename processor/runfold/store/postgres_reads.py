"""Queries of the PostgreSQL store. None but the counts grows with the number of runs: lists walk an index, newest first."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from asyncpg import Record

from runfold.fold.outcome import Flag
from runfold.fold.usage import SUMS, BucketKey, Dimensions
from runfold.store.port import RunFilter, RunPage, StoredRun
from runfold.store.postgres_connection import Session
from runfold.store.postgres_rows import key_of, stored_text, told_text
from runfold.store.split import chosen
from runfold.store.usage_query import UsageRow
from runfold_schemas import RunStatus

DIMENSIONS: Final = "model, assistant_id, project_id, user_id, api_key_id"
USAGE: Final = f"""minute, {DIMENSIONS}, status, {", ".join(f"{name}::text" for name in SUMS)} from usage
    join dimension on dimension.n = usage.dimension where ({" or ".join(f"{name} <> 0" for name in SUMS)})"""
"""Buckets that are not zero. Sums come as text, which becomes a whole number of any size soonest."""
_ORDERS: Final = {
    ascending: f"order by created_at {way}, run_id {way}, partition {way} limit"
    for ascending, way in ((False, "desc"), (True, "asc"))
}
_PAST_ALL_PARTITIONS: Final = (1 << 31) - 1
_RUN: Final = "partition, run_id, flags, body, created_at"
_LOAD: Final = """select partition, run_key, run_id, body from run
    where run_key = any($1::bigint[]) and partition = any($2::integer[])"""
_FIND: Final = f"select {_RUN} from run where run_key = any($1::bigint[])"
_FIND_OF_PROJECT: Final = f"""{_FIND} and exists
    (select from dimension as d where d.n = run.dimension and d.project_id = $2::text)"""


LOOKED_AT: Final = 1_000
"""Rows that browsing looks at between two looks at the clock."""

_Place = tuple[int, str, int]
"""created_at, run_id, partition."""

_FLAGGED: Final = f"""select count(*) filter (where flags & {int(Flag.INCOMPLETE)} <> 0) as without_created,
    count(*) filter (where flags & {int(Flag.MISSING)} <> 0) as missing, count(*) as flagged from run where flags <> 0"""


class _Row(NamedTuple):
    partition: int
    run_id: str
    flags: int
    body: bytes | None
    created_at: int

    @property
    def place(self) -> _Place:
        return self.created_at, self.run_id, self.partition

    def stored(self) -> StoredRun:
        assert self.body is not None
        handle = key_of(self.run_id)
        return StoredRun(partition=self.partition, run_id=self.run_id, handle=handle, body=self.body)


async def load(session: Session, wanted: Mapping[int, Sequence[str]]) -> list[StoredRun]:
    asked = {partition: frozenset(run_ids) for partition, run_ids in wanted.items()}
    keys = sorted(map(key_of, frozenset().union(*asked.values())))  # neighbours in the index, one after the other
    async with session.glancing():
        rows = await session.connection.fetch(_LOAD, keys, list(asked))
    found = ((of, told_text(run_id), key, body) for of, key, run_id, body in rows)
    return [
        StoredRun(partition=of, run_id=run_id, handle=key, body=body)
        for of, run_id, key, body in found
        if run_id in asked[of]
    ]


async def find_run(session: Session, run_id: str, *, project_id: str | None = None) -> list[StoredRun]:
    async with session.glancing():
        rows = await _rows_of(session, [run_id], project_id)
    return [row.stored() for row in sorted(rows)]


async def list_runs(session: Session, wanted: RunFilter) -> list[StoredRun]:
    """As the port says; a page that loses rows to their twins in other partitions is filled up."""
    found: list[_Row] = []
    after = _begin(wanted)
    async with session.reading():
        while (missing := wanted.limit - len(found)) > 0:
            page = await _page(session, wanted, _selection, after=after, limit=missing)
            found += await _speaking(session, wanted, page)
            if len(page) < missing:
                break
            after = page[-1].place
    return [row.stored() for row in found]


async def browse_runs(session: Session, wanted: RunFilter, *, seconds: float) -> RunPage:
    """As the port says: rows are looked at in chunks, and those that are not wanted come without their bodies."""
    deadline = time.monotonic() + seconds
    found: list[_Row] = []
    after = _begin(wanted)
    async with session.reading():
        while True:
            looked = await _page(session, wanted, _browsing, after=after, limit=LOOKED_AT)
            found += await _speaking(session, wanted, [row for row in looked if row.body is not None])
            if len(found) >= wanted.limit:
                last = found[wanted.limit - 1]
                return RunPage(rows=[row.stored() for row in found[: wanted.limit]], next=last.place[:2])
            ended = len(looked) < LOOKED_AT
            if ended or time.monotonic() > deadline:
                return RunPage(rows=[row.stored() for row in found], next=None if ended else looked[-1].place[:2])
            after = looked[-1].place


def _begin(wanted: RunFilter) -> _Place | None:
    return None if wanted.after is None else (*wanted.after, _PAST_ALL_PARTITIONS if wanted.ascending else -1)


async def _speaking(session: Session, wanted: RunFilter, rows: list[_Row]) -> list[_Row]:
    """Those rows that speak for their runs."""
    speaking = chosen(await _rows_of(session, [row.run_id for row in rows], wanted.project_id)) if rows else {}
    return [row for row in rows if speaking[row.run_id].partition == row.partition]


async def _rows_of(session: Session, run_ids: Sequence[str], project_id: str | None) -> list[_Row]:
    """The rows with these run ids, whichever partition they are in. Keys may be shared by chance: ids are compared."""
    wanted = set(run_ids)
    keys = [key_of(run_id) for run_id in wanted]
    if project_id is None:
        rows = await session.connection.fetch(_FIND, keys)
    else:
        rows = await session.connection.fetch(_FIND_OF_PROJECT, keys, stored_text(project_id))
    return [row for row in map(_told, rows) if row.run_id in wanted]


async def _page(
    session: Session, wanted: RunFilter, select: _Select, *, after: _Place | None, limit: int
) -> list[_Row]:
    values = _Values()
    columns, conditions = select(wanted, values)
    order, (behind, ahead) = _ORDERS[wanted.ascending], (">", "<") if wanted.ascending else ("<", ">")
    # The first condition of each is where the walk over the index begins or ends; the second decides among its ties.
    if after is not None:
        created_at, run_id, partition = after
        conditions += [
            f"created_at {behind}= {values.mark(created_at, 'bigint')}",
            f"""(created_at, run_id, partition) {behind} ({values.mark(created_at, "bigint")},
                {values.mark(stored_text(run_id), "text")}, {values.mark(partition, "integer")})""",
        ]
    if wanted.before is not None:
        created_at, run_id = wanted.before
        conditions += [
            f"created_at {ahead}= {values.mark(created_at, 'bigint')}",
            f"""(created_at, run_id) {ahead}
                ({values.mark(created_at, "bigint")}, {values.mark(stored_text(run_id), "text")})""",
        ]
    rest, most = "".join(f" and {condition}" for condition in conditions), int(limit)  # in the text: plans depend on it
    parts = [f"select {columns} from run where {walk}{rest} {order} {most}" for walk in _walks(wanted, values)]
    merged = " union all ".join(f"({part})" for part in parts)
    statement = parts[0] if len(parts) == 1 else f"{merged} {order} {most}"
    rows = await session.connection.fetch(statement, *values)
    return list(map(_told, rows))


class _Values(list[object]):
    """The values that a statement is given, in the order of their marks."""

    def mark(self, value: object, kind: str) -> str:
        self.append(value)
        return f"${len(self)}::{kind}"


def _told(row: Record) -> _Row:
    found = _Row._make(row)
    return found._replace(run_id=told_text(found.run_id)) if "\x01" in found.run_id else found


def _walks(wanted: RunFilter, values: _Values) -> list[str]:
    """The narrowest index that has the order; without a filter the open runs and one walk for each way to end, merged."""
    if wanted.thread_id is not None:
        thread = wanted.thread_id
        return [
            f"thread_key = {values.mark(key_of(thread), 'bigint')} and thread_id = {values.mark(stored_text(thread), 'text')}"
        ]
    if wanted.incomplete or wanted.missing or wanted.flagged:
        return ["flags <> 0"]
    statuses = [
        status for status in RunStatus if wanted.status in (None, status) and wanted.open in (None, not status.ended)
    ]
    if not statuses:  # an ended one that is open
        return ["false"]
    walks = [f"ended is not null and ended = {values.mark(status, 'smallint')}" for status in statuses if status.ended]
    return walks if all(status.ended for status in statuses) else ["ended is null", *walks]


_Select = Callable[[RunFilter, _Values], tuple[str, list[str]]]
"""What is read of a walk: the columns, and which rows."""


def _selection(wanted: RunFilter, values: _Values) -> tuple[str, list[str]]:
    """Only the rows that are wanted."""
    return _RUN, [*_conditions(wanted, values), *_named(wanted, values)]


def _browsing(wanted: RunFilter, values: _Values) -> tuple[str, list[str]]:
    """All rows that an index finds; the body only of those that are wanted."""
    body = f"case when {' and '.join(['true', *_named(wanted, values)])} then body end as body"
    return _RUN.replace("body", body), _conditions(wanted, values)


def _conditions(wanted: RunFilter, values: _Values) -> list[str]:
    """What can be told by the columns that indexes have."""
    conditions = []
    if wanted.status is not None:
        conditions.append(f"status = {values.mark(wanted.status, 'smallint')}")
    if wanted.open is not None:
        conditions.append("ended is null" if wanted.open else "ended is not null")
    for mask, given in ((Flag.INCOMPLETE, wanted.incomplete), (Flag.MISSING, wanted.missing), (-1, wanted.flagged)):
        if given is not None:
            conditions.append(f"(flags & {int(mask)} <> 0) = {values.mark(given, 'boolean')}")
    return conditions


def _named(wanted: RunFilter, values: _Values) -> list[str]:
    """What only a row's dimensions tell."""
    names = {"model": wanted.model, "assistant_id": wanted.assistant_id, "project_id": wanted.project_id}
    return [
        f"""exists (select from dimension as d
            where d.n = run.dimension and d.{column} = {values.mark(stored_text(value), "text")})"""
        for column, value in names.items()
        if value is not None
    ]


async def count_runs(session: Session) -> dict[str, int]:
    counts = {status.wire: 0 for status in RunStatus}
    async with session.reading():
        for statement in (
            "select status, count(*) from run where ended is null group by status",
            "select ended, count(*) from run where ended is not null group by ended",
        ):
            for status, count in await session.connection.fetch(statement):
                counts[RunStatus(status).wire] = count
        flags = await session.connection.fetchrow(_FLAGGED)
        split = await session.connection.fetchval(
            """select count(*) from (select from run join
                (select run_key from run group by run_key having count(*) > 1) as twins using (run_key)
                group by run_id having count(*) > 1) as split"""
        )
    return {**counts, **dict(flags or {}), "split": split}


async def count_flagged(session: Session) -> dict[str, int]:
    async with session.glancing():
        return dict(await session.connection.fetchrow(_FLAGGED) or {})


async def usage(session: Session, *, begin: int | None, end: int | None) -> list[UsageRow]:
    async with session.glancing():
        rows = await session.connection.fetch(
            f"select {USAGE} and minute >= $1 and minute < $2 order by minute, {DIMENSIONS}, status",
            -(1 << 62) if begin is None else begin,
            1 << 62 if end is None else end,
        )
    return [
        UsageRow(bucket=BucketKey(row[0], Dimensions(*map(told_text, row[1:6])), row[6]), sums=tuple(map(int, row[7:])))
        for row in rows
    ]
