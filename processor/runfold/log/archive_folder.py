"""The folder of an archive: its files, whole or not at all, and that nobody else writes them.

A segment is there when the manifest names it, and not before: the file is written under another name, made durable, renamed,
and then the manifest is replaced in one step. So an archiver can be killed at any instant, and a reader beside it sees whole
segments only. Nothing here reads what is in a segment: see ``archive_segment.py``.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from msgspec.structs import replace
from xxhash import xxh3_128

from runfold.log.archive_manifest import ArchiveDamaged, Manifest, Segment, folder_of, read_manifest, written
from runfold.log.bell import Ringer
from runfold.log.durable import sync_folder
from runfold.log.port import LogError, LogMissing, LogUnreachable

MANIFEST = "_manifest.json"
"""What begins with an underscore or a dot is no data to those who read a folder of Parquet files."""

_CHUNK = 1 << 20
_UNFINISHED = ".unfinished"


class ArchiveBusy(LogError):
    """Another process writes into the archive."""


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
        return read_manifest(text, file)

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
        """Remove what an archiver left that was killed in the middle of a file. Needs the lock."""
        for file in self.path.rglob(f"*{_UNFINISHED}"):
            file.unlink(missing_ok=True)

    def unlisted(self, manifest: Manifest) -> list[Path]:
        """Segments that no manifest names: renamed by an archiver that was killed just then, or put here by somebody."""
        listed = {self.file_of(segment) for segment in manifest.segments}
        return sorted(file for file in self.path.glob("partition=*/*.parquet") if file not in listed)

    @contextmanager
    def unfinished(self, partition: int, begin: int) -> Iterator[Path]:
        """Where to write a segment until it is whole; what is left there afterwards is removed."""
        folder = self.path / folder_of(partition)
        path = folder / f"{begin:020}{_UNFINISHED}"
        with told_to_a_person(path):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            yield path
        finally:
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def add(self, manifest: Manifest, segment: Segment, finished: Path) -> Manifest:
        """Take a whole and durable file in as a segment. Returns the manifest that names it, and wakes readers."""
        segments = [*manifest.segments, segment]
        segments.sort(key=lambda each: (each.partition, each.begin))
        with told_to_a_person(self.path):
            finished.replace(self.file_of(segment))
            sync_folder(finished.parent)
        return self.save(replace(manifest, segments=segments))

    def save(self, manifest: Manifest) -> Manifest:
        """Replace the manifest in one step."""
        file = self.path / MANIFEST
        unfinished = file.with_suffix(_UNFINISHED)
        with told_to_a_person(self.path):
            with unfinished.open("wb") as opened:
                opened.write(written(manifest))
                opened.flush()
                os.fsync(opened.fileno())
            unfinished.replace(file)
            sync_folder(self.path)
        self._ringer.ring()
        return manifest


def checksum_of(opened: BinaryIO) -> str:
    """Of the rest of a file, as a segment has it."""
    told = xxh3_128()
    while block := opened.read(_CHUNK):
        told.update(block)
    return told.hexdigest()


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
