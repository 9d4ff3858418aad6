"""A disk of some megabytes, which a test may fill, and make larger."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class SmallDisk:
    """A disk in memory, at ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def resize(self, megabytes: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={megabytes}m", str(self.folder)], check=True)


@contextmanager
def small_disk(megabytes: int, *, owner: int = 0) -> Iterator[SmallDisk]:
    """A disk that belongs to the user ``owner``. Skips the test, and says so, where no disk can be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="runfold-disk-"))
    given = ["-t", "tmpfs", "-o", f"size={megabytes}m,mode=700,uid={owner},gid={owner}", "tmpfs", str(folder)]
    mounted = subprocess.run(["mount", *given], check=False, capture_output=True)
    if mounted.returncode:
        folder.rmdir()
        pytest.skip(f"NOT PROVEN: no small disk can be made here: {mounted.stderr.decode().strip()}")
    yield SmallDisk(folder)
    subprocess.run(["umount", "--lazy", folder], check=True)
    folder.rmdir()
