"""Several processes that answer on one listening socket, and the one that minds them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Final

from runfold.config import Settings
from runfold.store.port import StoreUnreachable
from runfold.telemetry import configure_logging, get_logger

SOON: Final = 5.0
"""A worker that lives no longer has met what the next one would meet too."""

LOOK_SECONDS: Final = 0.2
PATIENCE: Final = 15.0
"""Seconds that a worker may take to end once it is told to."""

Work = Callable[[Settings, socket.socket], None]


def mind(settings: Settings, listening: socket.socket, work: Work, *, told: threading.Event) -> None:
    """Keep RUNFOLD_API_WORKERS processes at ``work`` until ``told`` to end them, and replace one that dies.

    ``work`` is a function that can be imported by name. Raises StoreUnreachable where workers die as soon as they begin.
    """
    workers = [_started(settings, listening, work) for _ in range(settings.api.workers)]
    begun = dict.fromkeys(workers, time.monotonic())
    try:
        while not told.is_set():
            wait([worker.sentinel for worker in workers], timeout=LOOK_SECONDS)
            for place, worker in enumerate(workers):
                if worker.is_alive() or told.is_set():
                    continue
                get_logger().warning("api_worker_died", pid=worker.pid, code=worker.exitcode)
                if time.monotonic() - begun.pop(worker) < SOON:
                    raise StoreUnreachable("workers die as soon as they begin; what they said stands above")
                workers[place] = _started(settings, listening, work)
                begun[workers[place]] = time.monotonic()
    finally:
        _end(workers)


@contextmanager
def until_signalled() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, for as long as the block lasts; on the main thread."""
    told = threading.Event()
    before = {which: signal.signal(which, lambda *_: told.set()) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


def _started(settings: Settings, listening: socket.socket, work: Work) -> SpawnProcess:
    worker = multiprocessing.get_context("spawn").Process(target=_begin, args=(settings, listening, work))
    worker.start()
    return worker


def _begin(settings: Settings, listening: socket.socket, work: Work) -> None:
    os.setpgrp()  # Ctrl-C is for the parent, who tells its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    configure_logging(level=settings.logging_level, style=settings.logging_format)
    with suppress(KeyboardInterrupt):
        work(settings, listening)


def _end_with_parent() -> None:
    """Whoever is left behind by a parent that was killed would hold the port for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _end(workers: list[SpawnProcess]) -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join(PATIENCE)
        if worker.is_alive():
            worker.kill()
            worker.join()
