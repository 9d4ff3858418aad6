"""What a store holds as rows, all of them: what digest, dump and comparison read, whichever the store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from runfold.fold.usage import SUMS, Dimensions

Row = tuple[object, ...]

_BUCKET_COLUMNS = ("minute", *Dimensions._fields, "status")
RUN_COLUMNS = (
    *("run_id", "thread_id", "status", "created_at", "flags", *Dimensions._fields),
    *("minute", "final_timestamp", "body"),
)
LETTER_COLUMNS = ("offset", "timestamp", "reason", "detail", "run_id", "key", "headers", "value")
JOURNAL_COLUMNS = ("offset", "part", "run_id", "timestamp", *_BUCKET_COLUMNS, *SUMS)
USAGE_COLUMNS = (*_BUCKET_COLUMNS, *SUMS)


class StoreSnapshot(Protocol):
    """A frozen view of the store. Rows come in canonical order, without surrogate keys (see docs/decisions)."""

    async def positions(self) -> dict[int, int]: ...

    def runs(self, partition: int) -> Iterator[Row]:
        """All columns of the partition's runs, ordered by run_id: RUN_COLUMNS."""

    def scan_runs(self) -> Iterator[tuple[int, Row]]:
        """(partition, row as in :meth:`runs`) of all runs, in whatever order is cheapest to read."""

    def letters(self, partition: int) -> Iterator[Row]:
        """The partition's dead letters, ordered by offset: LETTER_COLUMNS, headers encoded as one value."""

    def journal(self, partition: int) -> Iterator[Row]:
        """The partition's journal, ordered by offset and part: JOURNAL_COLUMNS."""

    def usage(self) -> Iterator[Row]:
        """Usage ordered by bucket, rows of zeros left out: USAGE_COLUMNS."""

    async def close(self) -> None: ...
