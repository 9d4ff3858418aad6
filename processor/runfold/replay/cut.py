"""A cut: how much of each partition an answer about the past may look at. An instant is, per partition, a prefix of the log.

What was published before a time T is the prefix that the log's own index of timestamps gives for T: all before the first
record that was published at or after it. Clocks of brokers may step back, so records behind the cut can be older than T;
what counts is where they stand.
"""

from __future__ import annotations

from collections.abc import Mapping

from runfold.log.port import LogSource
from runfold.store.port import StoreRefused

Cut = dict[int, int]
"""Per partition the position before which records count."""


class CutRefused(StoreRefused):
    """There is no such place in the log; the message names what there is."""


async def cut_at_time(source: LogSource, time: int) -> Cut:
    """The cut at a time in Unix milliseconds; a time to come is where the log ends now."""
    return await source.offsets_for_time(range(await source.partitions()), time)


async def cut_behind(source: LogSource, places: Mapping[int, int]) -> Cut:
    """The cut behind one record in each partition that is named (partition to offset); the others count to their end.

    Raises CutRefused where the log has no such partition, or ends before the offset.
    """
    count = await source.partitions()
    ranges = await source.ranges(range(count))
    for partition, offset in places.items():
        if partition not in ranges:
            raise CutRefused(f"partition {partition}: the log has partitions 0 to {count - 1}")
        if not 0 <= offset < ranges[partition].end:
            raise CutRefused(
                f"offset {offset} of partition {partition}: the log has {ranges[partition].begin} to "
                f"{ranges[partition].end - 1} there"
            )
    return {which: places[which] + 1 if which in places else held.end for which, held in ranges.items()}
