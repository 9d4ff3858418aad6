"""Restoring: an archive written out as a new log, which is then read, and published into, like any other.

It is another log: it has an identity of its own, and where it cannot keep offsets, other ones, so that stores are built anew
from it. Records keep their partition, their order, and all that is in them. A restore that was interrupted is gone on with
behind the last record that the new log has, which must be the archive's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

from msgspec import Struct

from runfold.fold.record import Record
from runfold.log.port import LogError, LogRestorer, LogSource, Range
from runfold.replay.shadow import Progress


class RestoredPartition(Struct, frozen=True, kw_only=True):
    """Where a partition's records stood in the archive, and where they stand now. ``found`` of them were there already."""

    partition: int
    records: int
    found: int
    archived: Range
    restored: Range


class Restored(Struct, frozen=True, kw_only=True):
    """What was written. ``remarks`` are sentences about the new log.

    ``earlier`` counts records that are stamped earlier than one before them in their partition.
    """

    partitions: list[RestoredPartition]
    earlier: int
    remarks: list[str]


async def restore(
    archive: LogSource,
    target: LogRestorer,
    open_target: Callable[[], LogSource],
    *,
    resume: bool,
    progress: Progress | None = None,
) -> Restored:
    """Write every record of ``archive``, which is started, into ``target``, which is not; ``open_target`` reads the latter.

    1. The target is made, or looked at: what would not keep the records is refused.
    2. It has to be empty or, with ``resume``, to hold the archive's first records.
    3. Each partition is written, behind what it has.
    4. The target is asked what it has: as many records, and the same last one. Raises LogError where that is not so.
    """
    ranges = await archive.ranges(range(await archive.partitions()))
    remarks = await target.prepare(partitions=len(ranges), oldest=await _oldest(archive, ranges))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(target.close)
        await target.start()
        made = open_target()
        stack.push_async_callback(made.close)
        await made.start()
        await _check_partitions(made, len(ranges))
        held = await made.ranges(list(ranges))
        if not resume:
            _check_empty(held)
        copy = _Copy(archive, target, made, ranges, progress)
        partitions = [await copy.partition(which, held[which]) for which in sorted(ranges)]
    return Restored(partitions=partitions, earlier=copy.earlier, remarks=remarks)


class _Copy:
    """Writes partition by partition, and counts."""

    def __init__(
        self,
        archive: LogSource,
        target: LogRestorer,
        made: LogSource,
        ranges: dict[int, Range],
        progress: Progress | None,
    ) -> None:
        self._archive, self._target, self._made, self._ranges = archive, target, made, ranges
        self._progress = progress
        self._done, self._total = 0, sum(of.end - of.begin for of in ranges.values())
        self.earlier = 0

    async def partition(self, which: int, held: Range) -> RestoredPartition:
        """Write what the target lacks of a partition, and see that it then has all of it."""
        archived = self._ranges[which]
        found, position = await self._found(which, held)
        count, last, latest = found, None, -1
        self._tell(position - archived.begin)
        async for records in self._archive.read(which, begin=position, end=archived.end):
            await self._target.write(which, records)
            count, last = count + len(records), records[-1]
            for record in records:
                self.earlier += record.timestamp < latest
                latest = max(latest, record.timestamp)
            self._tell(last.offset + 1 - position)
            position = last.offset + 1
        self._tell(archived.end - position)
        restored = (await self._made.ranges([which]))[which]
        if last is not None:
            await self._check_last(which, last, count=count, restored=restored)
        return RestoredPartition(partition=which, records=count, found=found, archived=archived, restored=restored)

    async def _found(self, which: int, held: Range) -> tuple[int, int]:
        """How many of the archive's records the target has already, and where in the archive to go on."""
        archived, count = self._ranges[which], 0
        last: Record | None = None
        if held.begin == held.end:
            return 0, archived.begin
        async for records in self._archive.read(which, begin=archived.begin, end=archived.end):
            there = [each for nth, each in enumerate(records, count) if self._place(each, nth) < held.end]
            count, last = count + len(there), there[-1] if there else last
            if len(there) < len(records):
                break
        if last is None:
            raise _other(which, held.begin)
        await self._check_last(which, last, count=count, restored=held)
        return count, last.offset + 1

    async def _check_last(self, which: int, last: Record, *, count: int, restored: Range) -> None:
        """Raise LogError where the target does not end with this record, the ``count``-th."""
        place = self._place(last, count - 1)
        record = await self._made.record_at(which, place)
        if record is None or (record.key, record.value) != (last.key, last.value) or restored.end != place + 1:
            raise _other(which, place)

    def _place(self, record: Record, nth: int) -> int:
        """Where a record belongs that is the ``nth`` of its partition, from 0."""
        return record.offset if self._target.keeps_offsets else nth

    def _tell(self, offsets: int) -> None:
        self._done += offsets
        if self._progress is not None:
            self._progress(self._done, self._total)


def _other(partition: int, offset: int) -> LogError:
    return LogError(
        f"partition {partition}, offset {offset}: the new log does not have the archive's record there: others have written "
        "into it, or it was begun from something else; restore into one that is not there yet"
    )


async def _oldest(archive: LogSource, ranges: dict[int, Range]) -> int:
    """The least timestamp among the first records of the partitions; that of a log without any is never over."""
    stamps = [2**62]
    for which, held in ranges.items():
        async for records in archive.read(which, begin=held.begin, end=held.end):
            stamps += [records[0].timestamp] if records[0].timestamp >= 0 else []
            break
    return min(stamps)


async def _check_partitions(made: LogSource, wanted: int) -> None:
    if (count := await made.partitions()) != wanted:
        raise LogError(
            f"the new log has {count} partitions, and the archive has {wanted}: what is published later would go to other "
            "partitions than the runs it belongs to; restore into one that is not there yet"
        )


def _check_empty(held: dict[int, Range]) -> None:
    for which, of in held.items():
        if of.end:
            raise LogError(
                f"the new log is not empty: partition {which} has offsets up to {of.end - 1}. With --resume a restore that was "
                "interrupted goes on; else restore into one that is not there yet"
            )
