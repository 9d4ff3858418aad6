"""A frozen view of the store in memory."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from runfold.fold.changes import JournalEntry, Letter, RunChange
from runfold.fold.usage import BucketKey
from runfold.store.rows import encode_headers
from runfold.store.snapshot import Row

Place = tuple[int, int]


class MemorySnapshot(Struct, frozen=True, kw_only=True):
    """See :class:`runfold.store.port.StoreSnapshot`. Rows are immutable, so a copy of the dictionaries is a frozen view."""

    reached: dict[int, int]
    rows: dict[tuple[int, str], RunChange]
    dead: dict[Place, Letter]
    booked: dict[tuple[int, int, int], JournalEntry]
    sums: dict[BucketKey, tuple[int, ...]]

    async def positions(self) -> dict[int, int]:
        return self.reached

    def runs(self, partition: int) -> Iterator[Row]:
        return (row for of, row in self.scan_runs() if of == partition)

    def scan_runs(self) -> Iterator[tuple[int, Row]]:
        for r in self.rows.values():
            named = (r.run_id, r.thread_id, r.status, r.created_at, r.flags)
            yield r.partition, (*named, *r.dimensions, r.minute, r.final_timestamp, r.body)

    def letters(self, partition: int) -> Iterator[Row]:
        for (of, offset), letter in self.dead.items():
            if of == partition:
                why = (letter.timestamp, letter.reason, letter.detail)
                yield (offset, *why, letter.run_id, letter.key, encode_headers(letter), letter.value)

    def journal(self, partition: int) -> Iterator[Row]:
        for (of, offset, part), entry in self.booked.items():
            if of == partition:
                yield (offset, part, entry.run_id, entry.timestamp, *_spelled_out(entry.bucket), *entry.sums)

    def usage(self) -> Iterator[Row]:
        return ((*_spelled_out(bucket), *sums) for bucket, sums in self.sums.items() if any(sums))

    async def close(self) -> None: ...


def _spelled_out(bucket: BucketKey) -> Row:
    return (bucket.minute, *bucket.dimensions, bucket.status)
