"""Ctrl-C reaches every process of a terminal at once: those that somebody else ends must not hear of it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """A process that ``multiprocessing`` starts inside never sees SIGINT, from its first instruction on."""
    resource_tracker.ensure_running()  # spawn would start it inside, and it unblocks what is blocked
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
