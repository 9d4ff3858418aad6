"""One serving process a store, and one rebuild: lock files beside it that name the pid of their holder; and taking turns.

The kernel gives the lock back when its holder dies, however it dies; a file that was left behind is therefore no obstacle.
It is never deleted: whoever waits with the old file open and whoever makes a new one would both hold "the" lock.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from runfold.store.port import StoreBusy, StoreUnreachable

_REMEDY = "stop that one first, or name another store"


@contextmanager
def serve_lock(store: Path) -> Iterator[None]:
    """Hold ``<store>.lock`` for this process. Raises StoreBusy while another one holds it."""
    path = store.with_name(store.name + ".lock")
    with pid_lock(path, lambda pid: f"the store {store} (RUNFOLD_STORE) is served by process {pid} already; {_REMEDY}"):
        yield


@contextmanager
def pid_lock(path: Path, busy: Callable[[str], str]) -> Iterator[None]:
    """Hold a lock file. Raises StoreBusy, saying ``busy`` of the holder's pid, while another one holds it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StoreUnreachable(f"the store's lock file {path} (RUNFOLD_STORE) cannot be written: {error}") from error
    try:
        _take(descriptor, busy)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


@contextmanager
def in_turn(path: Path | None) -> Iterator[None]:
    """Hold a lock file while others wait for it; None: nobody else is there."""
    if path is None:
        yield
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, busy: Callable[[str], str]) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        raise StoreBusy(busy(pid)) from None
