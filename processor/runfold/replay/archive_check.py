"""Is an archive whole, and does it say what the log says? Every file is read; with the log, every record that both have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from msgspec import Struct

from runfold.fold.record import Record
from runfold.log.archive_folder import ArchiveFolder
from runfold.log.archive_manifest import ArchiveDamaged, Manifest
from runfold.log.port import LogIdentity, LogSource, Range
from runfold.replay.shadow import Progress


class ArchiveChecked(Struct, frozen=True, kw_only=True):
    """The answer. ``ranges`` is what is held of each partition, ``bytes`` the files' size, ``raw_bytes`` keys and values.

    ``problems`` are sentences for people; ``compared`` counts the records that log and archive have both, if it was asked.
    """

    identity: LogIdentity
    ranges: dict[int, Range]
    segments: int
    records: int
    bytes: int
    raw_bytes: int
    compared: int | None
    problems: list[str]


async def check(
    folder: ArchiveFolder,
    *,
    archive: LogSource | None = None,
    log: LogSource | None = None,
    progress: Progress | None = None,
) -> ArchiveChecked:
    """Read every segment; with ``archive`` and ``log``, both started, compare them too.

    Raises LogMissing where there is no archive, ArchiveDamaged where its manifest cannot be read.
    """
    manifest = await asyncio.to_thread(folder.load)
    problems = [f"{file} is not named by the manifest, and is not read" for file in folder.unlisted(manifest)]
    done, total = 0, sum(segment.records for segment in manifest.segments)
    for segment in manifest.segments:
        try:
            await asyncio.to_thread(folder.check_whole, segment)
        except ArchiveDamaged as error:
            problems.append(str(error))
        done += segment.records
        if progress is not None:
            progress(done, total)
    compared = None
    if archive is not None and log is not None:
        compared = 0
        if not problems:
            compared, differing = await _compare(manifest, archive, log, progress)
            problems += differing
    return ArchiveChecked(
        identity=manifest.identity,
        ranges=manifest.ranges(),
        segments=len(manifest.segments),
        records=total,
        bytes=sum(segment.bytes for segment in manifest.segments),
        raw_bytes=sum(segment.raw_bytes for segment in manifest.segments),
        compared=compared,
        problems=problems,
    )


async def _compare(
    manifest: Manifest, archive: LogSource, log: LogSource, progress: Progress | None
) -> tuple[int, list[str]]:
    """How many records both have, and where they differ: the first place of each partition."""
    if (identity := await log.identity()) != manifest.identity:
        return 0, [f"the archive is of the log {manifest.topic}, not of {identity.topic} ({identity.cluster_id})"]
    problems, compared = [], 0
    archived, held = manifest.ranges(), await log.ranges(range(await log.partitions()))
    total = sum(
        max(0, min(of.end, held[which].end) - max(of.begin, held[which].begin)) for which, of in archived.items()
    )
    for which, of in archived.items():
        begin, end = max(of.begin, held[which].begin), min(of.end, held[which].end)
        if of.end > held[which].end:
            problems.append(
                f"partition {which}: the archive reaches offset {of.end}, and the log ends at {held[which].end}"
            )
        if of.end < held[which].begin:
            problems.append(
                f"partition {which}: offsets {of.end} to {held[which].begin - 1} are neither in archive nor log"
            )
        async for count, problem in _differences(archive, log, which, begin=begin, end=end):
            compared += count
            problems += [problem] if problem else []
            if progress is not None:
                progress(compared, total)
    return compared, problems


async def _differences(
    archive: LogSource, log: LogSource, partition: int, *, begin: int, end: int
) -> AsyncIterator[tuple[int, str | None]]:
    """How many records were compared since, and the first place where they differ."""
    ours = _each(archive, partition, begin=begin, end=end)
    async with aclosing(ours):
        async for records in log.read(partition, begin=begin, end=end):
            for count, record in enumerate(records):
                told = await anext(ours, None)
                if told is None or _content(told) != _content(record):
                    yield (
                        count,
                        f"partition {partition}, offset {record.offset}: the archive has {_what(told)}, the log another",
                    )
                    return
            yield len(records), None
        if (more := await anext(ours, None)) is not None:
            yield 0, f"partition {partition}, offset {more.offset}: the archive has a record, the log none"


async def _each(source: LogSource, partition: int, *, begin: int, end: int) -> Any:
    async for records in source.read(partition, begin=begin, end=end):
        for record in records:
            yield record


def _content(record: Record) -> tuple[object, ...]:
    return (record.offset, record.timestamp, record.key, record.value, [tuple(each) for each in record.headers])


def _what(record: Record | None) -> str:
    return "no more records" if record is None else f"a record at offset {record.offset}"
