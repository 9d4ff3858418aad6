"""``runfold replay archive``: the log copied into files that outlive it, and the proof that they are whole."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from typing import Annotated

from cyclopts import Parameter, validators

from runfold import wiring
from runfold.cli.exits import DONE, NO, WrongUseError
from runfold.cli.opening import reading_archive, reading_log
from runfold.cli.options import HERE, AsJson, Places
from runfold.cli.pace import pace
from runfold.cli.printing import print_json, print_line, print_table
from runfold.cli.text import counted
from runfold.config import Settings
from runfold.log.archive_folder import ArchiveFolder
from runfold.log.archive_manifest import Limits, Manifest, Segment
from runfold.replay import archiving
from runfold.replay.archive_check import ArchiveChecked
from runfold.replay.archive_check import check as check_archive
from runfold.replay.shadow import Progress

_LEAST = validators.Number(gte=1)

Records = Annotated[int, Parameter(validator=_LEAST, help="Most records of a segment.")]
Bytes = Annotated[int, Parameter(validator=_LEAST, help="Most bytes of a segment, before they are compressed.")]
Age = Annotated[float, Parameter(validator=_LEAST, help="Seconds that a record waits for its segment, with --follow.")]
Patience = Annotated[
    float,
    Parameter(validator=validators.Number(gt=0), help="Seconds without anything from the log until that is an error."),
]


def archive(
    *,
    follow: Annotated[
        bool, Parameter(help="Go on: a segment whenever there is enough for one, or it is time.")
    ] = False,
    check: Annotated[
        bool, Parameter(help="Archive nothing: read every file, and compare checksums and ranges.")
    ] = False,
    compare: Annotated[bool, Parameter(help="With --check: compare each record with the log's, too.")] = False,
    segment_records: Records = 1_000_000,
    segment_bytes: Bytes = 256_000_000,
    segment_age: Age = 3600.0,
    patience: Patience = 60.0,
    json: AsJson = False,
    places: Places = HERE,
) -> int:
    """Copy the log into Parquet files in the folder of RUNFOLD_ARCHIVE, from where they end to where it ends.

    The log is only read, also beside a running serve. Interrupted or killed, it goes on where it was. With RUNFOLD_ARCHIVE
    set, replay and retries read there what the log has forgotten. With --check the exit code is 1 where anything is wrong.
    """
    settings = places.settings()
    if compare and not check:
        raise WrongUseError("--compare is for --check: `runfold replay archive --check --compare`")
    if check:
        return _check(settings, compare=compare, json=json)
    limits = Limits(records=segment_records, bytes=segment_bytes, patience=patience)
    asyncio.run(_archive(settings, limits, age=segment_age if follow else None, json=json))
    return DONE


async def _archive(settings: Settings, limits: Limits, *, age: float | None, json: bool) -> None:
    """Archive once, or on and on where ``age`` is given."""
    writer = wiring.open_archive_writer(settings, limits)
    count = 0
    with pace("archiving", json=json) as told:
        async with reading_log(settings) as source:
            with writer.lock():
                if age is None:
                    written = archiving.archive(source, writer, progress=told)
                else:
                    written = archiving.follow(source, writer, age=age, clock=time.monotonic)
                async for segment in written:
                    count += 1
                    _tell_segment(segment, json=json, follow=age is not None)
    if not json:
        print_table(_COLUMNS, _rows(writer.manifest))
        print_line("")
        print_line(f"{counted(count, 'segment')} written; the archive has {_total(writer.manifest)}")


def _tell_segment(segment: Segment, *, json: bool, follow: bool) -> None:
    """Each segment as it comes, for machines and for those who follow."""
    if json:
        print_json({"file": segment.name, **{name: getattr(segment, name) for name in segment.__struct_fields__}})
    elif follow:
        print_line(f"{segment.name}: {counted(segment.records, 'record')}, {segment.bytes:,} bytes")
    sys.stdout.flush()


def _check(settings: Settings, *, compare: bool, json: bool) -> int:
    folder = ArchiveFolder(wiring.archive_path(settings))
    with pace("checking", json=json) as told:
        found = asyncio.run(_checked(settings, folder, told, compare=compare))
    if json:
        print_json({"whole": not found.problems, **{name: getattr(found, name) for name in found.__struct_fields__}})
        return NO if found.problems else DONE
    print_table(_COLUMNS, _rows(folder.load()))
    print_line("")
    for problem in found.problems:
        print_line(problem)
    compared = "" if found.compared is None else f"; {counted(found.compared, 'record')} compared with the log"
    verdict = counted(len(found.problems), "problem") if found.problems else "whole"
    print_line(f"{verdict}: {_total(folder.load())}{compared}")
    return NO if found.problems else DONE


async def _checked(settings: Settings, folder: ArchiveFolder, told: Progress, *, compare: bool) -> ArchiveChecked:
    if not compare:
        return await check_archive(folder, progress=told)
    async with reading_archive(settings) as archived, reading_log(settings) as log:
        return await check_archive(folder, archive=archived, log=log, progress=told)


_COLUMNS = ("partition", "from offset", "to offset", "segments", "records", "bytes", "of the log's")


def _rows(manifest: Manifest) -> Iterator[tuple[object, ...]]:
    ranges = manifest.ranges()
    for which, segments in manifest.by_partition().items():
        size = sum(segment.bytes for segment in segments)
        raw = sum(segment.raw_bytes for segment in segments)
        share = f"{size / raw:.1%}" if raw else None
        records = sum(segment.records for segment in segments)
        yield which, ranges[which].begin, ranges[which].end, len(segments), records, size, share


def _total(manifest: Manifest) -> str:
    records = sum(segment.records for segment in manifest.segments)
    return f"{counted(records, 'record')} in {counted(len(manifest.segments), 'segment')}"
