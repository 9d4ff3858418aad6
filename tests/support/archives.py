"""What tests of archives share: logs of odd records, an archive of a log, and the damage that can be done to one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from runfold.fold.record import Record, StoredRecord
from runfold.log.archive import ArchiveSource
from runfold.log.archive_folder import ArchiveFolder
from runfold.log.archive_manifest import Limits, Segment
from runfold.log.archive_writer import ArchiveWriter
from runfold.log.port import LogSource
from runfold.log.sqlite import SqliteSink, SqliteSource
from runfold.replay.archiving import archive

SMALL = Limits(records=100)
"""Segments of a hundred records, so that a test needs few of them."""


def records_of(count: int, *, begin: int = 0, step: int = 1) -> list[StoredRecord]:
    """Plain records of seven runs in turn, stamped a second apart."""
    return [
        StoredRecord(offset, 1_760_000_000_000 + 1_000 * nth, b"run_%d" % (nth % 7), b"value %d" % nth, ())
        for nth, offset in enumerate(range(begin, begin + count * step, step))
    ]


async def make_log(path: Path, *partitions: Sequence[Record]) -> None:
    """A SQLite log of exactly these records, the same number of partitions at least."""
    sink = SqliteSink(path, partitions=len(partitions))
    await sink.start()
    for partition, records in enumerate(partitions):
        if records:
            await sink.append_stamped(partition, records)
    await sink.close()


@asynccontextmanager
async def started(source: LogSource) -> AsyncIterator[LogSource]:
    """A source for a block; closed, too, where it could not be started."""
    try:
        await source.start()
        yield source
    finally:
        await source.close()


async def archive_log(log: Path | LogSource, folder: Path, limits: Limits = SMALL) -> list[Segment]:
    """Archive what a log has now; gives the segments that were written."""
    if isinstance(log, Path):
        async with started(SqliteSource(log)) as source:
            return await archive_log(source, folder, limits)
    writer = ArchiveWriter(folder, limits)
    with writer.lock():
        return [segment async for segment in archive(log, writer)]


async def read_all(source: LogSource, partition: int = 0, *, begin: int = 0, key: bytes | None = None) -> list[Record]:
    return [each async for records in source.read(partition, begin=begin, end=2**60, key=key) for each in records]


async def archived(folder: Path, partition: int = 0, **stretch: object) -> list[Record]:
    """What an archive gives of a partition."""
    async with started(ArchiveSource(folder)) as source:
        return await read_all(source, partition, **stretch)


async def start_and_close(source: LogSource) -> None:
    async with started(source):
        pass


def segment_files(folder: Path) -> list[Path]:
    """The files of the archive's segments, in order."""
    found = ArchiveFolder(folder)
    return [found.file_of(segment) for segment in found.load().segments]


def plain(records: Sequence[Record]) -> list[tuple[object, ...]]:
    """Records of any log, in a form that compares."""
    return [
        (each.offset, each.timestamp, each.key, each.value, [tuple(one) for one in each.headers]) for each in records
    ]
