"""One serving process a store: a lock file beside it that names the pid of its holder.

The kernel gives the lock back when its holder dies, however it dies; a file that was left behind is therefore no obstacle.
It is never deleted: whoever waits with the old file open and whoever makes a new one would both hold "the" lock.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runfold.store.port import StoreBusy, StoreUnreachable


@contextmanager
def serve_lock(store: Path) -> Iterator[None]:
    """Hold ``<store>.lock`` for this process. Raises StoreBusy while another one holds it."""
    path = store.with_name(store.name + ".lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StoreUnreachable(f"the store's lock file {path} (RUNFOLD_STORE) cannot be written: {error}") from error
    try:
        _take(descriptor, store)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _take(descriptor: int, store: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        raise StoreBusy(
            f"the store {store} (RUNFOLD_STORE) is served by process {pid} already; stop that one first, or name another store"
        ) from None
