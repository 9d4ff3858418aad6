"""What waits in a partition. A log may end with offsets that hold no record, such as the marks of transactions."""

from __future__ import annotations

from runfold.fold.record import Record
from runfold.log.port import LogSource


async def first_waiting(source: LogSource, partition: int, *, position: int, end: int) -> Record | None:
    """The first record at or behind ``position`` and before ``end``; None where there is none."""
    if position >= end:
        return None
    if (record := await source.record_at(partition, position)) is not None:
        return record
    async for records in source.read(partition, begin=position, end=end):
        return records[0]
    return None
