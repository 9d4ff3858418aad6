"""A frozen view of the SQLite store: a connection of its own that stands in a read transaction until it is closed.

While it is open, the write-ahead log cannot be checkpointed past it: close it as soon as the digest is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from runfold.fold.usage import SUMS
from runfold.store.snapshot import Row
from runfold.store.sqlite_connection import READ
from runfold.store.sqlite_errors import translated
from runfold.store.sqlite_links import Place, Superseded, check_current, open_live
from runfold.store.sqlite_reads import DIMENSIONS
from runfold.store.sqlite_usage import added_up

_SUMS: Final = ", ".join(SUMS)
_RUN: Final = f"""run_id, thread_id, status, created_at, flags, {DIMENSIONS}, minute, final_timestamp, body
    from run join dimension on dimension.n = run.dimension"""
_LETTERS: Final = """select offset, timestamp, reason, detail, run_id, key, headers, value from letter
    where partition = ? order by offset"""
_JOURNAL: Final = f"""select offset, part, run_id, timestamp, minute, {DIMENSIONS}, status, {_SUMS}
    from journal join dimension on dimension.n = journal.dimension where partition = ? order by offset, part"""
_USAGE: Final = f"""select minute, {DIMENSIONS}, status, {_SUMS} from usage
    join dimension on dimension.n = usage.dimension order by minute, {DIMENSIONS}, status, part"""


class SqliteSnapshot:
    """See :class:`runfold.store.port.StoreSnapshot`. Iterators may be read on any thread, one at a time."""

    def __init__(self, place: Place) -> None:
        while True:
            self._db, found = open_live(place, mode=READ)
            self._path = found.path
            try:
                with translated(self._path):
                    # "begin" alone takes no view: the first read does.
                    self._db.execute("begin")
                    check_current(self._db)
            except Superseded:
                self._db.close()
            else:
                return

    async def positions(self) -> dict[int, int]:
        with translated(self._path):
            return dict(self._db.execute("select partition, next from position order by partition").fetchall())

    def runs(self, partition: int) -> Iterator[Row]:
        # Sorting numbers and then fetching row by row keeps the bodies out of the sort.
        numbers = self._rows("select n from run where partition = ? order by run_id", partition)
        with translated(self._path):
            for (number,) in numbers:
                yield self._db.execute(f"select {_RUN} where run.n = ?", (number,)).fetchone()

    def scan_runs(self) -> Iterator[tuple[int, Row]]:
        # left join: SQLite is to walk the rows in their own order, and not to begin with the dimensions.
        rows = self._rows(f"select partition, {_RUN.replace(' join ', ' left join ')} order by run.n")
        return ((row[0], row[1:]) for row in rows)  # type: ignore[misc]

    def letters(self, partition: int) -> Iterator[Row]:
        return self._rows(_LETTERS, partition)

    def journal(self, partition: int) -> Iterator[Row]:
        return self._rows(_JOURNAL, partition)

    def usage(self) -> Iterator[Row]:
        return added_up(self._rows(_USAGE))

    async def close(self) -> None:
        await asyncio.to_thread(self._db.close)

    def _rows(self, statement: str, *values: object) -> Iterator[Row]:
        with translated(self._path):
            # Not "yield from": a reader that stops early would close the cursor, perhaps after its connection.
            for row in self._db.execute(statement, values):  # noqa: UP028 - see above
                yield row
