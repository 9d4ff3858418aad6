"""What an archive holds, as its manifest says it: which segments, of which log, over which offsets. No files are touched here.

A segment is a file with one partition's records of a range of offsets. A change of what is written raises ``FORMAT``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from runfold.fold.record import hash_of_record
from runfold.log.port import LogError, LogIdentity, LogSource, Range

FORMAT = 1


class ArchiveDamaged(LogError):
    """A file of an archive is not what was written; the message names it and the offsets it should hold."""


class Limits(Struct, frozen=True, kw_only=True):
    """When a segment ends: at so many records, or bytes of keys and values; ``patience`` is in seconds without a record."""

    records: int = 1_000_000
    bytes: int = 256_000_000
    patience: float = 60.0


class Segment(Struct, frozen=True, kw_only=True):
    """One file: the records of ``partition`` with begin <= offset < end; offsets without a record are within, too.

    ``bytes`` and ``checksum`` (XXH3, 128 bits) are the file's. ``raw_bytes`` sums up keys and values. ``latest`` is the
    greatest record timestamp (Unix milliseconds). ``last_offset`` and ``last_hash`` are the last record's, None where there
    is none: by them a log is recognised.
    """

    partition: int
    begin: int
    end: int
    records: int
    bytes: int
    raw_bytes: int
    latest: int
    last_offset: int | None
    last_hash: str | None
    checksum: str

    @property
    def name(self) -> str:
        """The file within the archive's folder."""
        return f"{folder_of(self.partition)}/{self.begin:020}-{self.end:020}.parquet"

    @property
    def told(self) -> str:
        """What a message says that is lacking without it."""
        return f"offsets {self.begin} to {self.end - 1} of partition {self.partition}"


async def check_seam(source: LogSource, last: Segment, *, where: Path) -> None:
    """See that a log has the last record of a segment, unless it has forgotten it. Raises LogError: it is another log then."""
    assert last.last_offset is not None
    record = await source.record_at(last.partition, last.last_offset)
    if record is None and last.last_offset < (await source.ranges([last.partition]))[last.partition].begin:
        return
    if record is None or hash_of_record(record).hex() != last.last_hash:
        raise LogError(
            f"partition {last.partition}, offset {last.last_offset}: the log has another record there than {where / last.name}:"
            " one of them is of another log, or was changed; `runfold replay archive --check --compare` tells where they differ"
        )


class Manifest(Struct, frozen=True, kw_only=True):
    """What an archive holds of which log. ``begins`` has each partition's first offset; ``segments`` are in order."""

    format: int
    cluster_id: str
    topic: str
    begins: list[int]
    segments: list[Segment]

    @property
    def identity(self) -> LogIdentity:
        return LogIdentity(self.cluster_id, self.topic)

    def by_partition(self) -> dict[int, list[Segment]]:
        """The segments of each partition, by offset; partitions without any have an empty list."""
        found: dict[int, list[Segment]] = {which: [] for which in range(len(self.begins))}
        for segment in self.segments:
            found[segment.partition].append(segment)
        return found

    def last_of(self, partition: int) -> Segment | None:
        """The last segment of a partition that has a record; by it a log is recognised as this archive's."""
        return next((each for each in reversed(self.segments) if each.partition == partition and each.records), None)

    def ranges(self) -> dict[int, Range]:
        """What is held of each partition."""
        ends = dict(enumerate(self.begins))
        ends.update((segment.partition, segment.end) for segment in self.segments)
        return {which: Range(begin, ends[which]) for which, begin in enumerate(self.begins)}


def new_manifest(identity: LogIdentity, begins: Mapping[int, int]) -> Manifest:
    """That of an archive without a segment."""
    return Manifest(
        format=FORMAT,
        cluster_id=identity.cluster_id,
        topic=identity.topic,
        begins=[begins[which] for which in sorted(begins)],
        segments=[],
    )


def read_manifest(text: bytes, file: Path) -> Manifest:
    """The manifest in ``file``. Raises ArchiveDamaged where it cannot be right, LogError where a newer runfold wrote it."""
    try:
        manifest = _decode(text)
    except msgspec.MsgspecError as error:
        raise ArchiveDamaged(f"{file} is no manifest of an archive, or damaged ({error}); restore it") from error
    if manifest.format != FORMAT:
        raise LogError(f"{file} has format {manifest.format}, this runfold reads {FORMAT}; use the one that wrote it")
    _check_unbroken(file, manifest)
    return manifest


def written(manifest: Manifest) -> bytes:
    """A manifest as its file has it, for people too."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1)


def folder_of(partition: int) -> str:
    """The folder of a partition's segments, named as other tools take a column from."""
    return f"partition={partition}"


def _check_unbroken(file: Path, manifest: Manifest) -> None:
    """Ranges that follow each other without a gap are what archive and replay stand on."""
    following: defaultdict[int, int | None] = defaultdict(lambda: None, enumerate(manifest.begins))
    for segment in manifest.segments:
        expected = following[segment.partition]
        if expected is None or segment.begin != expected or segment.end <= segment.begin:
            raise ArchiveDamaged(
                f"{file} is damaged: of partition {segment.partition} it names offsets {segment.begin} to {segment.end - 1} "
                f"where offset {expected} should follow; restore it from a copy"
            )
        following[segment.partition] = segment.end


_decode = msgspec.json.Decoder(Manifest).decode
