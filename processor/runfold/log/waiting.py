"""The first record of a partition that is not folded: what a lag in seconds is told by."""

from __future__ import annotations

from runfold.fold.record import Record
from runfold.log.port import LogSource


async def first_waiting(source: LogSource, partition: int, *, position: int, end: int) -> Record | None:
    """The record at or behind ``position``, below ``end``. A log may end with offsets that hold none, such as marks."""
    if position >= end:
        return None
    if (record := await source.record_at(partition, position)) is not None:
        return record
    async for records in source.read(partition, begin=position, end=end):
        return records[0]
    return None
