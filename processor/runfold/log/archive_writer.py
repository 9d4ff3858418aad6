"""Writing an archive: a log's records, as they are, into segments. The log is only read, and takes no notice.

Whoever writes holds the folder's lock, and looks first whether this is the log that the archive was begun with. A segment
ends at a number of records or bytes, or with what there is to archive. What blocks runs on a thread.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from runfold.fold.record import Record, bytes_of
from runfold.log.archive_folder import ArchiveFolder
from runfold.log.archive_manifest import Limits, Manifest, Segment, check_seam, new_manifest
from runfold.log.archive_segment import GROUP_BYTES, GROUP_RECORDS, SegmentWriter
from runfold.log.port import LogCutShort, LogError, LogMissing, LogSource, LogUnreachable, Range

T = TypeVar("T")

Watch = Callable[[int, int], None]
"""Told the partition, and the position up to which it is written."""


class ArchiveWriter:
    """Writes the archive in the folder ``path``, making it where there is none. ``begin`` reads ``manifest``."""

    def __init__(self, path: Path, limits: Limits = Limits()) -> None:  # noqa: B008 - it cannot be changed
        self._folder, self.limits = ArchiveFolder(path), limits
        self.manifest: Manifest

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the archive; needed by all that follows. Raises ArchiveBusy while another process does."""
        with self._folder.lock():
            self._folder.clear_unfinished()
            yield

    async def begin(self, source: LogSource) -> dict[int, Range]:
        """See that the archive goes on where ``source`` stands, or begin it there. Returns the log's ranges.

        Raises LogError where this is another log, or lacks offsets that the archive has not; LogCutShort.
        """
        identity, count = await source.identity(), await source.partitions()
        ranges = await source.ranges(range(count))
        begins = {which: held.begin for which, held in ranges.items()}
        try:
            manifest = self._folder.load()
        except LogMissing:
            manifest = self._folder.save(new_manifest(identity, begins))
        if manifest.identity != identity:
            raise LogError(
                f"the archive {self._folder.path} is of the log {manifest.topic} ({manifest.cluster_id}), not of "
                f"{identity.topic} ({identity.cluster_id}); name another folder, or the right log in RUNFOLD_LOG"
            )
        if count > len(manifest.begins):  # a topic can grow
            grown = [*manifest.begins, *(begins[which] for which in range(len(manifest.begins), count))]
            manifest = self._folder.save(replace(manifest, begins=grown))
        self.manifest = manifest
        self._settle_unlisted(ranges)
        for partition, held in ranges.items():
            await self._check_goes_on(source, partition, held)
        return ranges

    def _settle_unlisted(self, ranges: dict[int, Range]) -> None:
        """Remove a segment that was finished but not listed when its archiver was killed: the log still has all of it."""
        for file in self._folder.unlisted(self.manifest):
            place = _place_of(file)
            if place is None or place[0] not in ranges or place[1] < ranges[place[0]].begin:
                raise LogError(
                    f"{file} is not named by the archive's manifest, and the log does not have its offsets any more: restore "
                    "the manifest that names it, or move the file away"
                )
            file.unlink()

    async def _check_goes_on(self, source: LogSource, partition: int, held: Range) -> None:
        reached = self.manifest.ranges()[partition].end
        if held.begin > reached:
            raise LogError(
                f"the archive {self._folder.path} ends at offset {reached} of partition {partition}, and the log begins at "
                f"{held.begin}: offsets {reached} to {held.begin - 1} are in neither, and an archive has no gaps; begin "
                "another one in a new folder, and archive more often than the log forgets"
            )
        if held.end < reached:
            raise LogCutShort(partition=partition, wanted=reached, end=held.end)
        if (last := self.manifest.last_of(partition)) is not None:
            await check_seam(source, last, where=self._folder.path)

    async def archive(
        self, source: LogSource, partition: int, *, end: int, watch: Watch | None = None
    ) -> AsyncIterator[Segment]:
        """Archive a partition from where the archive ends up to ``end``; gives each segment when it is listed.

        Raises LogUnreachable where nothing comes for as long as patience lasts, or the disk is full: what was given stays.
        """
        while (begin := self.manifest.ranges()[partition].end) < end:
            with self._folder.unfinished(partition, begin) as path:
                segment = await self._write(path, source, partition, stretch=Range(begin, end), watch=watch)
                self.manifest = self._folder.add(self.manifest, segment, path)
            yield segment

    async def _write(
        self, path: Path, source: LogSource, partition: int, *, stretch: Range, watch: Watch | None
    ) -> Segment:
        """Write one segment's file. Interrupted at any instant it leaves nothing that the manifest names."""
        writer = SegmentWriter(path, partition=partition, begin=stretch.begin)
        try:
            await _on_thread(writer.open)
            async with aclosing(self._groups(source, partition, stretch)) as groups:
                async for records in groups:
                    await _on_thread(partial(writer.write, records))
                    if watch is not None:
                        watch(partition, records[-1].offset + 1)
                    if writer.records >= self.limits.records or writer.raw_bytes >= self.limits.bytes:
                        return await _on_thread(partial(writer.finish, records[-1].offset + 1))
                return await _on_thread(partial(writer.finish, stretch.end))
        finally:
            writer.abandon()

    async def _groups(self, source: LogSource, partition: int, stretch: Range) -> AsyncGenerator[list[Record], None]:
        """Records in groups of rows; what is beyond the segment's end is read again for the next one."""
        left, group, size = self.limits.records, list[Record](), 0
        reading = _in_time(
            source.read(partition, begin=stretch.begin, end=stretch.end), partition, self.limits.patience
        )
        async with aclosing(reading):
            async for records in reading:
                group += records
                size += bytes_of(records)
                if len(group) >= min(GROUP_RECORDS, left) or size >= GROUP_BYTES:
                    yield group[:left]
                    left, group, size = left - len(group), [], 0
        if group:
            yield group


async def _in_time(
    reading: AsyncIterator[Sequence[Record]], partition: int, patience: float
) -> AsyncGenerator[Sequence[Record], None]:
    """The same sequences, as long as none of them takes longer than ``patience`` seconds to come."""
    try:
        while True:
            async with asyncio.timeout(patience):
                records = await anext(reading, None)
            if records is None:
                return
            yield records
    except TimeoutError as error:
        raise LogUnreachable(
            f"partition {partition}: nothing came from the log for {patience:g} s; see whether it is reachable and healthy, "
            "then archive again: it goes on where it stopped"
        ) from error
    finally:
        if isinstance(reading, AsyncGenerator):
            await reading.aclose()


async def _on_thread(work: Callable[[], T]) -> T:
    """Do blocking work; when cancelled, it is over before that is told, so that nothing is written behind anybody's back."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait((working,))
        raise


def _place_of(file: Path) -> tuple[int, int] | None:
    """Partition and first offset of a segment, by its name."""
    found = re.fullmatch(r"partition=(\d+)/(\d{20})-\d{20}\.parquet", f"{file.parent.name}/{file.name}")
    return (int(found[1]), int(found[2])) if found else None
