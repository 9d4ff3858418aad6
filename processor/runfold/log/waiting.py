"""What waits in a log: the first record behind a position, whose age is the lag in seconds."""

from __future__ import annotations

from runfold.fold.record import Record
from runfold.log.port import LogSource


async def first_waiting(source: LogSource, partition: int, *, position: int, end: int) -> Record | None:
    """The first record that is not folded. A log may end with offsets that hold none, such as marks of transactions."""
    if position >= end:
        return None
    if (record := await source.record_at(partition, position)) is not None:
        return record
    async for records in source.read(partition, begin=position, end=end):
        return records[0]
    return None
