"""The folder of an archive: which segments there are, what each holds, and that nobody else writes them.

A segment is a file with one partition's records of a range of offsets. It is there when the manifest names it, and not
before: the file is written under another name, made durable, renamed, and then the manifest is replaced in one step. So an
archiver can be killed at any instant, and a reader beside it sees whole segments only. A change of what is written raises
``FORMAT``. Nothing here reads what is in a segment: see ``archive_segment.py``.
"""

from __future__ import annotations

import fcntl
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from xxhash import xxh3_128

from runfold.fold.record import hash_of_record
from runfold.log.bell import Ringer
from runfold.log.port import LogError, LogIdentity, LogMissing, LogSource, LogUnreachable, Range

FORMAT = 1
MANIFEST = "_manifest.json"
"""What begins with an underscore or a dot is no data to those who read a folder of Parquet files."""

_CHUNK = 1 << 20
_UNFINISHED = ".unfinished"


class ArchiveBusy(LogError):
    """Another process writes into the archive."""


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
        """The file within the folder; its own folder is named as other tools take a column from."""
        return f"{_folder_of(self.partition)}/{self.begin:020}-{self.end:020}.parquet"

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


class ArchiveFolder:
    """The archive in the folder ``path``, which need not be there yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ringer = Ringer(path)

    def load(self) -> Manifest:
        """What the archive holds now. Raises LogMissing where there is none, ArchiveDamaged where it cannot be right."""
        file = self.path / MANIFEST
        try:
            with told_to_a_person(self.path):
                text = file.read_bytes()
        except FileNotFoundError as error:
            raise LogMissing(
                f"there is no archive in {self.path}; `runfold replay archive` makes one, or correct the path"
            ) from error
        try:
            manifest = _decode(text)
        except msgspec.MsgspecError as error:
            raise ArchiveDamaged(f"{file} is no manifest of an archive, or damaged ({error}); restore it") from error
        if manifest.format != FORMAT:
            raise LogError(
                f"{file} has format {manifest.format}, this runfold reads {FORMAT}; use the one that wrote it"
            )
        _check_unbroken(file, manifest)
        return manifest

    def stamp(self) -> tuple[int, int] | None:
        """What changes with every manifest; None where there is none."""
        try:
            found = (self.path / MANIFEST).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def file_of(self, segment: Segment) -> Path:
        return self.path / segment.name

    def check_there(self, segments: Sequence[Segment]) -> None:
        """Raise ArchiveDamaged where a segment's file is missing, or longer or shorter than it was."""
        for segment in segments:
            file = self.file_of(segment)
            try:
                size = file.stat().st_size
            except OSError as error:
                raise ArchiveDamaged(
                    f"{file} is missing ({error.strerror}), and with it {segment.told}; restore it from a copy"
                ) from error
            if size != segment.bytes:
                raise ArchiveDamaged(
                    f"{file} has {size} bytes where {segment.bytes} were written: {segment.told} cannot be read; restore it "
                    "from a copy"
                )

    def check_whole(self, segment: Segment) -> None:
        """Read a segment's file and compare its checksum. Raises ArchiveDamaged."""
        self.check_there([segment])
        file = self.file_of(segment)
        with told_to_a_person(file), file.open("rb") as opened:
            if checksum_of(opened) != segment.checksum:
                raise ArchiveDamaged(
                    f"{file} is not what was written (its checksum differs): {segment.told} cannot be trusted; restore it "
                    "from a copy"
                )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the archive for writing; makes its folder. Raises ArchiveBusy while another process does."""
        with told_to_a_person(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._take(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _take(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise ArchiveBusy(
                f"process {pid} writes the archive {self.path} already; stop that one first, or name another folder"
            ) from None
        with told_to_a_person(self.path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)

    def clear_unfinished(self) -> None:
        """Remove what an archiver left that was killed in the middle of a segment. Needs the lock."""
        for file in self.path.glob(f"partition=*/*{_UNFINISHED}"):
            file.unlink(missing_ok=True)

    def unlisted(self, manifest: Manifest) -> list[Path]:
        """Segments that no manifest names: renamed by an archiver that was killed just then, or put here by somebody."""
        listed = {self.file_of(segment) for segment in manifest.segments}
        return sorted(file for file in self.path.glob("partition=*/*.parquet") if file not in listed)

    @contextmanager
    def unfinished(self, partition: int, begin: int) -> Iterator[Path]:
        """Where to write a segment until it is whole; what is left there afterwards is removed."""
        folder = self.path / _folder_of(partition)
        path = folder / f"{begin:020}{_UNFINISHED}"
        with told_to_a_person(path):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            yield path
        finally:
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def add(self, manifest: Manifest, segment: Segment, written: Path) -> Manifest:
        """Take a whole and durable file in as a segment. Returns the manifest that names it, and wakes readers."""
        segments = [*manifest.segments, segment]
        segments.sort(key=lambda each: (each.partition, each.begin))
        with told_to_a_person(self.path):
            written.replace(self.file_of(segment))
            sync_folder(written.parent)
        return self.save(replace(manifest, segments=segments))

    def save(self, manifest: Manifest) -> Manifest:
        """Replace the manifest in one step."""
        file = self.path / MANIFEST
        unfinished = file.with_suffix(_UNFINISHED)
        with told_to_a_person(self.path):
            with unfinished.open("wb") as opened:
                opened.write(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
                opened.flush()
                os.fsync(opened.fileno())
            unfinished.replace(file)
            sync_folder(self.path)
        self._ringer.ring()
        return manifest


def new_manifest(identity: LogIdentity, begins: Mapping[int, int]) -> Manifest:
    """That of an archive without a segment."""
    return Manifest(
        format=FORMAT,
        cluster_id=identity.cluster_id,
        topic=identity.topic,
        begins=[begins[which] for which in sorted(begins)],
        segments=[],
    )


def checksum_of(opened: BinaryIO) -> str:
    """Of the rest of a file, as a segment has it."""
    told = xxh3_128()
    while block := opened.read(_CHUNK):
        told.update(block)
    return told.hexdigest()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, as the files' contents are."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@contextmanager
def told_to_a_person(path: Path) -> Iterator[None]:
    """Turn what the operating system raises into LogUnreachable; that a file is missing means something else each time."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise LogUnreachable(
            f"the archive's {path}: {error.strerror or error}; make room, or check the path and the rights on it. What the "
            "manifest names is whole, and archiving goes on from there"
        ) from error


def _folder_of(partition: int) -> str:
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
