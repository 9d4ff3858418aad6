"""Queries of the SQLite store but the lists (sqlite_lists). None but the counts grows with the number of runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Final

from runfold.fold.outcome import Flag
from runfold.fold.usage import SUMS, BucketKey, Dimensions
from runfold.store.port import StoredRun
from runfold.store.sqlite_keys import rows_of
from runfold.store.sqlite_lists import ListedRow
from runfold.store.sqlite_usage import added_up
from runfold.store.usage_query import UsageRow
from runfold_schemas import RunStatus

DIMENSIONS: Final = "model, assistant_id, project_id, user_id, api_key_id"


def load(db: sqlite3.Connection, wanted: Mapping[int, Sequence[str]]) -> list[StoredRun]:
    asked = {partition: frozenset(run_ids) for partition, run_ids in wanted.items()}
    return [
        StoredRun(partition=of, run_id=run_id, handle=n, body=body)
        for n, of, run_id, _, body in rows_of(db, list(chain.from_iterable(asked.values())))
        if run_id in asked.get(of, ())
    ]


def find_run(db: sqlite3.Connection, run_id: str, *, project_id: str | None = None) -> list[StoredRun]:
    rows = [ListedRow(*row).stored() for row in rows_of(db, [run_id], project_id=project_id)]
    return sorted(rows, key=lambda row: row.partition)


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
