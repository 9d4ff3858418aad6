"""An archive and the log it was made from, read as one log: what the log has forgotten comes from the archive.

The log is asked for all that it has, the archive only for offsets below the log's begin; a log that forgets more while it is
read is gone on with from the archive. Both have to be of one log, without a gap between them, and where both hold a record
it has to be the same one. Nothing else may be put between a reader and its log: a gap that nobody tells of would be folded
over as if nothing had ever stood there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Protocol

from runfold.fold.record import Record
from runfold.log.archive_manifest import Segment, check_seam
from runfold.log.port import HeldBack, LogCutShort, LogError, LogIdentity, LogSource, Range, RangeLost


class Archive(LogSource, Protocol):
    """An archive as a log, and the last segment with a record of a partition."""

    def last_of(self, partition: int) -> Segment | None: ...


class WholeLog:
    """Reads ``archive`` and ``live`` as one; see :class:`runfold.log.port.LogSource`. ``where`` names the archive."""

    def __init__(self, archive: Archive, live: LogSource, *, where: Path) -> None:
        self._archive, self._live, self._where = archive, live, where
        self._begins: dict[int, int] = {}
        self._positions: dict[int, int] = {}
        self._below: AbstractSet[int] = frozenset()

    async def start(self) -> None:
        """As the port says, of both. Raises LogError where they do not make one log; the message names file and offset."""
        await self._live.start()
        await self._archive.start()
        archived, live = await self._archive.identity(), await self._live.identity()
        if archived != live:
            raise LogError(
                f"{self._where} is the archive of {archived.topic} ({archived.cluster_id}), and RUNFOLD_LOG is {live.topic} "
                f"({live.cluster_id}); name the archive of this log in RUNFOLD_ARCHIVE"
            )
        for partition in await self.ranges(range(await self._live.partitions())):
            if (last := self._archive.last_of(partition)) is not None:
                await check_seam(self._live, last, where=self._where)

    async def close(self) -> None:
        try:
            await self._archive.close()
        finally:
            await self._live.close()

    async def identity(self) -> LogIdentity:
        return await self._live.identity()

    async def partitions(self) -> int:
        return await self._live.partitions()

    async def ranges(self, partitions: Sequence[int]) -> dict[int, Range]:
        """As the port says: from the archive's begin to the log's end. Raises LogError where there is a gap by now."""
        archived = await self._archived(partitions)  # asked first: what is archived meanwhile is in the log, too
        ranges = await self._live.ranges(partitions)
        self._begins.update((which, held.begin) for which, held in ranges.items())
        return ranges | {which: _joined(self._where, which, of, ranges[which]) for which, of in archived.items()}

    async def held_back(self, partitions: Sequence[int]) -> dict[int, HeldBack]:
        return await self._live.held_back(partitions)

    async def offsets_for_time(self, partitions: Sequence[int], time: int) -> dict[int, int]:
        begins = {which: held.begin for which, held in (await self._live.ranges(partitions)).items()}
        archived = await self._archive.offsets_for_time(list(await self._archived(partitions)), time)
        found = await self._live.offsets_for_time(partitions, time)
        return found | {which: offset for which, offset in archived.items() if offset < begins[which]}

    async def record_at(self, partition: int, offset: int) -> Record | None:
        record = await self._live.record_at(partition, offset)
        if record is None and partition in await self._archived([partition]):
            return await self._archive.record_at(partition, offset)
        return record

    def assign(self, positions: Mapping[int, int]) -> None:
        """As the port says. Where the log begins is known from the last :meth:`ranges`, else it is found out by reading."""
        self._positions = dict(positions)
        below = {which: at for which, at in positions.items() if at < self._begins.get(which, 0)}
        self._archive.assign(below)
        self._live.assign({which: at for which, at in positions.items() if which not in below})
        self._below = below.keys()

    def position(self, partition: int) -> int:
        return self._positions[partition]

    def tell_progress(self, positions: Mapping[int, int]) -> None:
        self._live.tell_progress(positions)

    async def fetch(self, *, most_records: int, most_bytes: int, wait: float) -> dict[int, list[Record]]:
        """As the port says; as long as there is anything in the archive, that comes first."""
        assigned = self._positions
        try:
            if self._below:
                batch = await self._archive.fetch(most_records=most_records, most_bytes=most_bytes, wait=0)
                if self._positions is not assigned:
                    return {}
                assigned.update((which, self._archive.position(which)) for which in self._below)
                if any(assigned[which] >= self._begins[which] for which in self._below):
                    self.assign(assigned)
                if batch:
                    return batch
                assigned = self._positions
            batch = await self._live.fetch(most_records=most_records, most_bytes=most_bytes, wait=wait)
        except RangeLost:
            await self._find_in_archive(assigned)
            return {}
        if self._positions is not assigned:
            return {}
        assigned.update((which, self._live.position(which)) for which in assigned.keys() - self._below)
        return batch

    async def _find_in_archive(self, assigned: dict[int, int]) -> None:
        """The log has forgotten what was to be read next. Raises RangeLost where the archive does not have it either."""
        for which, held in (await self.ranges(list(assigned))).items():
            if assigned[which] < held.begin:
                raise RangeLost(partition=which, wanted=assigned[which], begin=held.begin)
        if self._positions is assigned:
            self.assign(assigned)

    async def read(
        self, partition: int, *, begin: int, end: int, key: bytes | None = None
    ) -> AsyncIterator[Sequence[Record]]:
        """As the port says; each part of the stretch from where it is."""
        while begin < end:
            held, live = (await self.ranges([partition]))[partition], self._begins[partition]
            if begin < held.begin:
                raise RangeLost(partition=partition, wanted=begin, begin=held.begin)
            if begin < live:
                stop = min(live, end)
                async for records in self._archive.read(partition, begin=begin, end=stop, key=key):
                    yield records
                begin = stop
                continue
            try:
                async for records in self._live.read(partition, begin=begin, end=end, key=key):
                    yield records
                    begin = records[-1].offset + 1
            except RangeLost:
                continue  # it has forgotten more since it was asked
            return

    async def _archived(self, partitions: Sequence[int]) -> dict[int, Range]:
        """What the archive has of these partitions: it knows none that the log has grown by since."""
        known = await self._archive.partitions()
        return await self._archive.ranges([which for which in partitions if which < known])


def _joined(where: Path, partition: int, archived: Range, live: Range) -> Range:
    """What both hold together. Raises LogError where there is a gap between them, LogCutShort where the log is shorter."""
    if archived.end < live.begin:
        raise LogError(
            f"partition {partition}: the archive {where} ends at offset {archived.end}, and the log begins at {live.begin}: "
            f"offsets {archived.end} to {live.begin - 1} are in neither. Without RUNFOLD_ARCHIVE the log alone is read"
        )
    if archived.end > live.end:
        raise LogCutShort(partition=partition, wanted=archived.end, end=live.end)
    return Range(min(archived.begin, live.begin), live.end)
