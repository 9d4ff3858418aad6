"""Archiving that is killed, interrupted, or out of disk: what the manifest names is whole, and the next run goes on there."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from archives import archive_log, make_log, plain, read_all, records_of, segment_files, started

from runfold.log import archive_folder
from runfold.log.archive import ArchiveSource
from runfold.log.archive_folder import ArchiveFolder
from runfold.log.archive_manifest import Limits
from runfold.log.port import LogUnreachable
from runfold.log.sqlite import SqliteSource

RECORDS = [each._replace(value=bytes(str(each.offset), "ascii") * 40) for each in records_of(20_000)]


@pytest.fixture
async def log(tmp_path):
    path = tmp_path / "log.db"
    await make_log(path, RECORDS, RECORDS[:5_000])
    return path


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "archive"


def archiving(log: Path, folder: Path, *, records: int = 500, **popen: object) -> subprocess.Popen[bytes]:
    """``runfold replay archive`` in a process of its own, in many small segments."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("RUNFOLD_")}
    return subprocess.Popen(
        [sys.executable, "-m", "runfold", "replay", "archive", "--segment-records", str(records), "--json"],
        env={**own, "RUNFOLD_LOG": f"sqlite:///{log}", "RUNFOLD_ARCHIVE": f"archive:///{folder}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **popen,
    )


def quietly(process: subprocess.Popen[bytes]) -> bool:
    """Whether it ends as it should, with no word but of its progress."""
    _, told = process.communicate(timeout=120)
    return process.returncode == 0 and all(b'"event":"progress"' in line for line in told.splitlines())


async def same_as_log(log: Path, folder: Path) -> bool:
    async with started(SqliteSource(log)) as source, started(ArchiveSource(folder)) as archive:
        return all(
            [plain(await read_all(archive, which)) == plain(await read_all(source, which)) for which in range(2)]
        )


def whole(folder: Path) -> int:
    """How many segments the manifest names, having read each of them."""
    found = ArchiveFolder(folder)
    manifest = found.load()
    for segment in manifest.segments:
        found.check_whole(segment)
    return len(manifest.segments)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
async def test_ended_at_random_instants(log, folder, how):
    """However it is ended and whenever, what is named is whole, no segment is lost again, and in the end it is the log."""
    random, named = Random(int(how)), 0
    for _ in range(4):
        process = archiving(log, folder)
        process.stdout.readline()  # it has begun: a segment is there
        await asyncio.sleep(random.uniform(0, 0.1))  # the instant of death, not a condition
        process.send_signal(how)
        _, told = process.communicate(timeout=60)
        assert process.returncode in (0, {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[how]), told
        assert named <= whole(folder)
        named = whole(folder)
    assert quietly(archiving(log, folder))
    assert ArchiveFolder(folder).unlisted(ArchiveFolder(folder).load()) == []
    assert list(folder.rglob("*.unfinished")) == []
    assert whole(folder) == 50
    assert await same_as_log(log, folder)


async def test_a_full_disk(tmp_path, folder):
    """Where no file may grow any more it ends with 3 and says so; with room it goes on from the last segment."""
    log, random = tmp_path / "log.db", Random(1)
    large = [each._replace(value=random.randbytes(200)) for each in RECORDS[:5_000]]
    await make_log(log, RECORDS[:500], large)
    room = 100_000  # for all but the second segment, also for what SQLite needs to read its log
    small = archiving(
        log, folder, records=5_000, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    )
    _, told = small.communicate(timeout=60)
    assert (small.returncode, b"Traceback" in told) == (3, False)
    assert b"make room" in told
    assert b"archiving goes on from there" in told
    (first,) = segment_files(folder)
    written = first.stat().st_mtime_ns
    assert quietly(archiving(log, folder, records=5_000))
    assert (whole(folder), first.stat().st_mtime_ns) == (2, written)
    assert await same_as_log(log, folder)


class Failing:
    """Lets file operations pass, and fails the one that it is told."""

    def __init__(self, monkeypatch, at):
        self.left = at
        for owner, name in ((archive_folder.os, "fsync"), (Path, "replace"), (Path, "open"), (Path, "mkdir")):
            monkeypatch.setattr(owner, name, self._wrapped(getattr(owner, name)))

    def _wrapped(self, operation):
        def call(*arguments, **options):
            self.left -= 1
            if self.left == 0:
                raise OSError(28, "No space left on device")
            return operation(*arguments, **options)

        return call


async def test_every_file_operation_fails_once(tmp_path, folder, monkeypatch):
    """Whichever operation on a file fails, the error names the archive, what is named is whole, and the next run mends it."""
    log = tmp_path / "log.db"
    records = records_of(250)
    await make_log(log, records, records)
    reached = 0
    while True:
        with monkeypatch.context() as patch:
            failing = Failing(patch, reached + 1)
            try:
                await archive_log(log, folder, Limits(records=100))
            except LogUnreachable as error:
                assert str(folder) in str(error)
                assert "No space left" in str(error)
            if failing.left > 0:
                break
        if (folder / archive_folder.MANIFEST).exists():
            whole(folder)
        await archive_log(log, folder, Limits(records=100))
        assert whole(folder) == 6
        assert await same_as_log(log, folder)
        for file in [*folder.rglob("*.parquet"), folder / archive_folder.MANIFEST]:
            file.unlink()
        reached += 1
    assert reached > 20
