"""Queries of the SQLite store. None but the counts grows with the number of runs: every list walks an index, newest first."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

from runfold.fold.outcome import Flag
from runfold.fold.usage import SUMS, BucketKey, Dimensions
from runfold.store.port import RunFilter, StoredRun, UsageRow
from runfold.store.split import chosen
from runfold.store.sqlite_keys import key_hash, rows_of
from runfold.store.sqlite_usage import added_up
from runfold_schemas import RunStatus

DIMENSIONS: Final = "model, assistant_id, project_id, user_id, api_key_id"
_ORDERS: Final = {
    ascending: f"order by created_at {way}, run_id {way}, partition {way} limit ?"
    for ascending, way in ((False, "desc"), (True, "asc"))
}
_PAST_ALL_PARTITIONS: Final = 1 << 40


class _Row(NamedTuple):
    n: int
    partition: int
    run_id: str
    flags: int
    body: bytes
    created_at: int = 0

    def stored(self) -> StoredRun:
        return StoredRun(partition=self.partition, run_id=self.run_id, handle=self.n, body=self.body)


class _Walk(NamedTuple):
    """One index to walk: what stands after ``from``, its values, and the column that the walk is ordered by."""

    source: str
    values: tuple[object, ...] = ()
    ordered_by: str = "run.created_at"


def load(db: sqlite3.Connection, partition: int, run_ids: Sequence[str]) -> dict[str, StoredRun]:
    return {
        run_id: StoredRun(partition=partition, run_id=run_id, handle=n, body=body)
        for n, of, run_id, _, body in rows_of(db, run_ids)
        if of == partition
    }


def find_run(db: sqlite3.Connection, run_id: str, *, project_id: str | None = None) -> list[StoredRun]:
    rows = [_Row(*row).stored() for row in rows_of(db, [run_id], project_id=project_id)]
    return sorted(rows, key=lambda row: row.partition)


def list_runs(db: sqlite3.Connection, wanted: RunFilter) -> list[StoredRun]:
    """As the port says; a page that loses rows to their twins in other partitions is filled up."""
    if not _dimensions_exist(db, wanted):
        return []
    found: list[_Row] = []
    after = None if wanted.after is None else (*wanted.after, _PAST_ALL_PARTITIONS if wanted.ascending else -1)
    while (missing := wanted.limit - len(found)) > 0:
        page = _page(db, wanted, after=after, limit=missing)
        twins = rows_of(db, [row.run_id for row in page], project_id=wanted.project_id)
        speaking = chosen(_Row(*row) for row in twins)
        found += [row for row in page if speaking[row.run_id].n == row.n]
        if len(page) < missing:
            break
        after = (page[-1].created_at, page[-1].run_id, page[-1].partition)
    return [row.stored() for row in found]


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


def _page(db: sqlite3.Connection, wanted: RunFilter, *, after: tuple[int, str, int] | None, limit: int) -> list[_Row]:
    conditions, values = _conditions(wanted)
    parts, bound = [], list[object]()
    order, (behind, ahead) = _ORDERS[wanted.ascending], (">", "<") if wanted.ascending else ("<", ">")
    for source, of_source, created_at in _walks(wanted):
        where, bounds = conditions, list[object]()
        for place, beyond in ((after, behind), (wanted.before, ahead)):
            if place is not None:
                # The first condition is where the walk over the index begins or ends; the second decides among its ties.
                columns, marks = ("run_id, partition", "?, ?, ?") if len(place) == 3 else ("run_id", "?, ?")
                where = [*where, f"{created_at} {beyond}= ?", f"({created_at}, {columns}) {beyond} ({marks})"]
                bounds += [place[0], *place]
        parts.append(
            f"""select * from (select run.n, partition, run_id, flags, body, {created_at} as created_at
                from {source} and {" and ".join(where)} {order})"""
        )
        bound += [*of_source, *values, *bounds, limit]
    rows = db.execute(f"{' union all '.join(parts)} {order}", [*bound, limit])
    return list(map(_Row._make, rows))


def _walks(wanted: RunFilter) -> list[_Walk]:
    """The narrowest index that has the order; without a filter one walk for each status, merged."""
    if wanted.thread_id is not None:
        return [
            _Walk(
                f"thread_key_{level} as key cross join run on run.n = key.n where hash = ? and thread_id = ?",
                (key_hash(wanted.thread_id), wanted.thread_id),
                "key.created_at",
            )
            for level in ("young", "settled")
        ]
    if wanted.incomplete or wanted.missing or wanted.flagged:
        return [_Walk("run indexed by run_flagged where flags != 0")]
    statuses = list(RunStatus) if wanted.status is None else [wanted.status]
    return [_Walk("run indexed by run_by_status where status = ?", (status,)) for status in statuses]


def _conditions(wanted: RunFilter) -> tuple[list[str], list[object]]:
    conditions, values = ["true"], list[object]()
    if wanted.status is not None:
        conditions, values = [*conditions, "status = ?"], [*values, wanted.status]
    for column, value in (
        ("model", wanted.model),
        ("assistant_id", wanted.assistant_id),
        ("project_id", wanted.project_id),
    ):
        if value is not None:
            conditions = [
                *conditions,
                f"exists (select 1 from dimension as d where d.n = run.dimension and d.{column} = ?)",
            ]
            values = [*values, value]
    for mask, given in ((Flag.INCOMPLETE, wanted.incomplete), (Flag.MISSING, wanted.missing), (-1, wanted.flagged)):
        if given is not None:
            conditions, values = [*conditions, "(flags & ? != 0) = ?"], [*values, int(mask), given]
    return conditions, values


def count_runs(db: sqlite3.Connection) -> dict[str, int]:
    counts = {status.wire: 0 for status in RunStatus}
    for status, count in db.execute("select status, count(*) from run indexed by run_by_status group by status"):
        counts[RunStatus(status).wire] = count
    return {**counts, **count_flagged(db), "split": _count_split(db)}


def count_flagged(db: sqlite3.Connection) -> dict[str, int]:
    incomplete, missing, flagged = db.execute(
        """select count(*) filter (where flags & ?), count(*) filter (where flags & ?), count(*)
            from run indexed by run_flagged where flags != 0""",
        (int(Flag.INCOMPLETE), int(Flag.MISSING)),
    ).fetchone()
    return {"without_created": incomplete, "missing": missing, "flagged": flagged}


def _count_split(db: sqlite3.Connection) -> int:
    """Runs with more than one row. Two ordered key tables are merged; the few that share a hash are looked at."""
    twins = db.execute(
        """select hash from (select hash from run_key_young union all select hash from run_key_settled order by hash)
            group by hash having count(*) > 1"""
    ).fetchall()
    split = 0
    for (hashed,) in twins:
        (runs,) = db.execute(
            """select count(*) from (select run_id from run where n in
                (select n from run_key_young where hash = ?1 union all select n from run_key_settled where hash = ?1)
                group by run_id having count(*) > 1)""",
            (hashed,),
        ).fetchone()
        split += runs
    return split


def usage(db: sqlite3.Connection, *, begin: int | None, end: int | None) -> list[UsageRow]:
    sums = ", ".join(SUMS)
    rows = db.execute(
        f"""select minute, {DIMENSIONS}, status, {sums} from usage join dimension on dimension.n = usage.dimension
            where minute >= ? and minute < ? order by minute, {DIMENSIONS}, status, part""",
        (-(1 << 62) if begin is None else begin, 1 << 62 if end is None else end),
    )
    return [UsageRow(bucket=BucketKey(row[0], Dimensions(*row[1:6]), row[6]), sums=row[7:]) for row in added_up(rows)]


def count_letters(db: sqlite3.Connection) -> dict[str, int]:
    return dict(db.execute("select reason, count(*) from letter group by reason order by reason").fetchall())
