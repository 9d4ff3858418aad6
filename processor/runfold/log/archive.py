"""Reading an archive as a log: the segments of a folder, each partition's one behind the other, under the log's own identity.

What an archiver adds beside it is seen at the next look, as with any log. Blocking work runs on a thread of the object's
own. A segment's file is compared with its checksum before anything of it is given, and its pages with theirs.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from runfold.fold.record import Record
from runfold.log.archive_folder import ArchiveFolder
from runfold.log.archive_manifest import Manifest, Segment
from runfold.log.archive_segment import SegmentReader
from runfold.log.bell import Follower
from runfold.log.port import HeldBack, LogCutShort, LogError, LogIdentity, Range, RangeLost

T = TypeVar("T")

_MOST_OPEN: Final = 16
"""Segments kept open; a reader goes from one to the next, and rarely comes back."""


class ArchiveSource:
    """Reads the archive in the folder ``path``; see :class:`runfold.log.port.LogSource`."""

    def __init__(self, path: Path) -> None:
        self._folder = ArchiveFolder(path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="runfold-archive")
        self._follower = Follower(path)
        self._manifest: Manifest
        self._segments: dict[int, list[Segment]] = {}
        self._stamp: tuple[int, int] | None = None
        self._open: dict[str, SegmentReader] = {}
        self._whole: set[str] = set()
        self._positions: dict[int, int] = {}
        self._held: dict[int, list[Record]] = {}
        self._turn = 0
        self._closed = False

    async def start(self) -> None:
        """As the port says. Raises ArchiveDamaged too, where a segment that the manifest names is not there."""
        await self._call(self._look)
        self._follower.open()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._follower.close()
        try:
            await asyncio.shield(self._call(self._close_all))
        finally:
            self._thread.shutdown(wait=False)

    async def identity(self) -> LogIdentity:
        """That of the log the archive was made from, so that a store of that log is a store of this one."""
        await self._call(self._look)
        return self._manifest.identity

    async def partitions(self) -> int:
        return len(self._manifest.begins)

    async def ranges(self, partitions: Sequence[int]) -> dict[int, Range]:
        await self._call(self._look)
        ranges = self._manifest.ranges()
        return {which: ranges[which] for which in partitions}

    async def held_back(self, partitions: Sequence[int]) -> dict[int, HeldBack]:  # noqa: ARG002 - the port's
        """None: what is archived is decided."""
        return {}

    async def offsets_for_time(self, partitions: Sequence[int], time: int) -> dict[int, int]:
        await self._call(self._look)
        return await self._call(lambda: {which: self._offset_for_time(which, time) for which in partitions})

    async def record_at(self, partition: int, offset: int) -> Record | None:
        await self._call(self._look)
        segment = self._segment_at(partition, offset)
        if segment is None:
            return None
        found = await self._call(lambda: self._group_from(segment, offset))
        return next((record for record in found[:1] if record.offset == offset), None)

    def assign(self, positions: Mapping[int, int]) -> None:
        self._positions = dict(positions)
        self._held.clear()

    def position(self, partition: int) -> int:
        return self._positions[partition]

    def tell_progress(self, positions: Mapping[int, int]) -> None:
        """Nobody to tell: no tool but ours reads an archive's positions."""

    async def fetch(self, *, most_records: int, most_bytes: int, wait: float) -> dict[int, list[Record]]:
        """As the port says. Raises LogCutShort where a position is beyond the archive."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        while True:
            self._follower.disarm()  # before looking: what is rung for from here on is looked for again
            await self._call(self._look)
            assigned = self._positions
            batch = await self._take(most_records, most_bytes)
            if self._positions is not assigned:
                return {}
            if batch or (left := deadline - loop.time()) <= 0:
                return batch
            await self._follower.wait(left)

    async def read(
        self, partition: int, *, begin: int, end: int, key: bytes | None = None
    ) -> AsyncIterator[Sequence[Record]]:
        """As the port says; the next group of rows is read while one is being used."""
        await self._call(self._look)
        held = self._manifest.ranges()[partition]
        if begin < held.begin:
            raise RangeLost(partition=partition, wanted=begin, begin=held.begin)
        end = min(end, held.end)
        ahead: asyncio.Future[tuple[Sequence[Record], int]] | None = None
        try:
            while begin < end:
                records, begin = await (ahead or self._later(partition, begin, key))
                ahead = self._later(partition, begin, key) if begin < end else None
                if begin > end:
                    records = records[: _index_of(records, end)]
                if records:
                    yield records
        finally:
            if ahead is not None:
                ahead.add_done_callback(_look_at)
                ahead.cancel()

    def last_of(self, partition: int) -> Segment | None:
        """See :meth:`Manifest.last_of`."""
        return self._manifest.last_of(partition)

    def _later(self, partition: int, begin: int, key: bytes | None) -> asyncio.Future[tuple[Sequence[Record], int]]:
        return asyncio.ensure_future(self._call(partial(self._next, partition, begin, key)))

    async def _take(self, most_records: int, most_bytes: int) -> dict[int, list[Record]]:
        """The next records of the assigned partitions, in turn, moving the positions; does not wait for more."""
        batch: dict[int, list[Record]] = {}
        assigned, order = self._positions, list(self._positions)
        self._turn = (self._turn + 1) % (len(order) or 1)
        for which in order[self._turn :] + order[: self._turn]:
            while most_records > 0 and (most_bytes > 0 or not batch):
                if not await self._filled(which, assigned):
                    break
                count, size = _fitting(self._held[which][:most_records], most_bytes, alone=not batch)
                if not count:
                    break
                records = self._held[which][:count]
                del self._held[which][:count]
                batch.setdefault(which, []).extend(records)
                assigned[which] = records[-1].offset + 1
                most_records, most_bytes = most_records - count, most_bytes - size
        return batch if self._positions is assigned else {}

    async def _filled(self, partition: int, assigned: dict[int, int]) -> bool:
        """Whether there are records in hand of a partition, having read the next ones where there were none."""
        while not self._held.get(partition):
            position, end = assigned[partition], self._manifest.ranges()[partition].end
            if position > end:
                raise LogCutShort(partition=partition, wanted=position, end=end)
            if position == end:
                return False
            records, following = await self._call(partial(self._next, partition, position))
            if self._positions is not assigned:
                return False
            self._held[partition] = list(records)
            if not records:
                assigned[partition] = following
        return True

    def _next(self, partition: int, begin: int, key: bytes | None = None) -> tuple[Sequence[Record], int]:
        """The records from ``begin`` to the end of their group of rows, and the offset to go on from."""
        segment = self._segment_at(partition, begin)
        if segment is None:
            raise RangeLost(partition=partition, wanted=begin, begin=self._manifest.begins[partition])
        starts = self._reader(segment).starts
        group = max(0, bisect_right(starts, begin) - 1)
        following = starts[group + 1] if group + 1 < len(starts) else segment.end
        return self._group_from(segment, begin, key), following

    def _group_from(self, segment: Segment, offset: int, key: bytes | None = None) -> Sequence[Record]:
        """The records at an offset and after it, to the end of their group of rows."""
        reader = self._reader(segment)
        if not reader.starts:
            return []
        records = reader.records(max(0, bisect_right(reader.starts, offset) - 1), key=key)
        first = 0 if not records or records[0].offset >= offset else _index_of(records, offset)
        return records[first:] if first else records

    def _segment_at(self, partition: int, offset: int) -> Segment | None:
        """The segment with an offset in its range."""
        segments = self._segments[partition]
        place = bisect_right(segments, offset, key=lambda segment: segment.begin) - 1
        return segments[place] if place >= 0 and offset < segments[place].end else None

    def _offset_for_time(self, partition: int, time: int) -> int:
        for segment in self._segments[partition]:
            if segment.latest >= time:
                reader = self._reader(segment)
                for group in range(len(reader.starts)):
                    if (offset := reader.first_at(group, time)) is not None:
                        return offset
        return self._manifest.ranges()[partition].end

    def _reader(self, segment: Segment) -> SegmentReader:
        """The segment's file, opened and found to be what was written."""
        reader = self._open.pop(segment.name, None)
        if reader is None:
            if segment.name not in self._whole:
                self._folder.check_whole(segment)
                self._whole.add(segment.name)
            reader = SegmentReader(self._folder.file_of(segment), segment)
            while len(self._open) >= _MOST_OPEN:
                self._open.pop(next(iter(self._open))).close()
        self._open[segment.name] = reader
        return reader

    def _look(self) -> None:
        """Take notice of what has been added. Raises LogError where the archive has become another one."""
        stamp = self._folder.stamp()
        if stamp == self._stamp and stamp is not None:
            return
        manifest = self._folder.load()
        known = self._manifest if self._stamp else None
        if known is not None and (
            manifest.identity != known.identity or manifest.begins[: len(known.begins)] != known.begins
        ):
            raise LogError(f"the archive {self._folder.path} was made anew while it was open; start again to use it")
        old = set() if known is None else {segment.name for segment in known.segments}
        self._folder.check_there([segment for segment in manifest.segments if segment.name not in old])
        self._manifest, self._segments, self._stamp = manifest, manifest.by_partition(), stamp

    def _close_all(self) -> None:
        for reader in self._open.values():
            reader.close()
        self._open.clear()

    async def _call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _look_at(ahead: asyncio.Future[Any]) -> None:
    """Take note of what became of records that nobody waits for any more, or asyncio complains."""
    if not ahead.cancelled():
        ahead.exception()


def _index_of(records: Sequence[Record], offset: int) -> int:
    return bisect_right(records, offset - 1, key=lambda record: record.offset)


def _fitting(records: Sequence[Record], most_bytes: int, *, alone: bool) -> tuple[int, int]:
    """How many of the records fit, and their values' bytes; one does whatever its size, where it is ``alone``."""
    size = 0
    for count, record in enumerate(records):
        larger = size + len(record.value or b"")
        if larger > most_bytes and not (alone and count == 0):
            return count, size
        size = larger
    return len(records), size
