"""Queries of the PostgreSQL store. None but the counts grows with the number of runs: lists walk an index, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from asyncpg import Record

from runfold.fold.outcome import Flag
from runfold.fold.usage import SUMS, BucketKey, Dimensions
from runfold.store.port import RunFilter, StoredRun, UsageRow
from runfold.store.postgres_connection import Session
from runfold.store.postgres_rows import key_of, stored_text, told_text
from runfold.store.split import chosen
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
_LOAD: Final = "select run_key, run_id, body from run where run_key = any($1::bigint[]) and partition = $2"
_FIND: Final = f"select {_RUN} from run where run_key = any($1::bigint[])"
_FIND_OF_PROJECT: Final = f"""{_FIND} and exists
    (select from dimension as d where d.n = run.dimension and d.project_id = $2::text)"""


_FLAGGED: Final = f"""select count(*) filter (where flags & {int(Flag.INCOMPLETE)} <> 0) as without_created,
    count(*) filter (where flags & {int(Flag.MISSING)} <> 0) as missing, count(*) as flagged from run where flags <> 0"""


class _Row(NamedTuple):
    partition: int
    run_id: str
    flags: int
    body: bytes
    created_at: int

    def stored(self) -> StoredRun:
        handle = key_of(self.run_id)
        return StoredRun(partition=self.partition, run_id=self.run_id, handle=handle, body=self.body)


async def load(session: Session, partition: int, run_ids: Sequence[str]) -> dict[str, StoredRun]:
    keys = sorted({key_of(run_id) for run_id in run_ids})  # neighbours in the index are asked for one after the other
    async with session.glancing():
        rows = await session.connection.fetch(_LOAD, keys, partition)
    wanted = set(run_ids) if rows else ()
    found = ((told_text(run_id), key, body) for key, run_id, body in rows)
    return {
        run_id: StoredRun(partition=partition, run_id=run_id, handle=key, body=body)
        for run_id, key, body in found
        if run_id in wanted
    }


async def find_run(session: Session, run_id: str, *, project_id: str | None = None) -> list[StoredRun]:
    async with session.glancing():
        rows = await _rows_of(session, [run_id], project_id)
    return [row.stored() for row in sorted(rows)]


async def list_runs(session: Session, wanted: RunFilter) -> list[StoredRun]:
    """As the port says; a page that loses rows to their twins in other partitions is filled up."""
    found: list[_Row] = []
    after = None if wanted.after is None else (*wanted.after, _PAST_ALL_PARTITIONS if wanted.ascending else -1)
    async with session.reading():
        while (missing := wanted.limit - len(found)) > 0:
            page = await _page(session, wanted, after=after, limit=missing)
            speaking = chosen(await _rows_of(session, [row.run_id for row in page], wanted.project_id))
            found += [row for row in page if speaking[row.run_id].partition == row.partition]
            if len(page) < missing:
                break
            after = (page[-1].created_at, page[-1].run_id, page[-1].partition)
    return [row.stored() for row in found]


async def _rows_of(session: Session, run_ids: Sequence[str], project_id: str | None) -> list[_Row]:
    """The rows with these run ids, whichever partition they are in. Keys may be shared by chance: ids are compared."""
    wanted = set(run_ids)
    keys = [key_of(run_id) for run_id in wanted]
    if project_id is None:
        rows = await session.connection.fetch(_FIND, keys)
    else:
        rows = await session.connection.fetch(_FIND_OF_PROJECT, keys, stored_text(project_id))
    return [row for row in map(_told, rows) if row.run_id in wanted]


async def _page(session: Session, wanted: RunFilter, *, after: tuple[int, str, int] | None, limit: int) -> list[_Row]:
    values = _Values()
    conditions = _conditions(wanted, values)
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
    parts = [f"select {_RUN} from run where {walk}{rest} {order} {most}" for walk in _walks(wanted, values)]
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
    statuses = list(RunStatus) if wanted.status is None else [RunStatus(wanted.status)]
    walks = [f"ended is not null and ended = {values.mark(status, 'smallint')}" for status in statuses if status.ended]
    return walks if all(status.ended for status in statuses) else ["ended is null", *walks]


def _conditions(wanted: RunFilter, values: _Values) -> list[str]:
    conditions = []
    if wanted.status is not None:
        conditions.append(f"status = {values.mark(wanted.status, 'smallint')}")
    for column, value in (
        ("model", wanted.model),
        ("assistant_id", wanted.assistant_id),
        ("project_id", wanted.project_id),
    ):
        if value is not None:
            conditions.append(
                f"""exists (select from dimension as d
                    where d.n = run.dimension and d.{column} = {values.mark(stored_text(value), "text")})"""
            )
    for mask, given in ((Flag.INCOMPLETE, wanted.incomplete), (Flag.MISSING, wanted.missing), (-1, wanted.flagged)):
        if given is not None:
            conditions.append(f"(flags & {int(mask)} <> 0) = {values.mark(given, 'boolean')}")
    return conditions


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
