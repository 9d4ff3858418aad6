"""A worker does not outlive its parent, however that ends: what is not committed is read again by whoever comes next."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from threading import Thread
from typing import Final

ORPHANED: Final = 1
_PR_SET_PDEATHSIG: Final = 1


def die_with_parent() -> None:
    """To be called by a worker as the first thing it does.

    A thread waits for the end of a pipe that the parent holds open, which works everywhere, also while the event loop is
    busy. On Linux the kernel kills besides: a worker that is stopped (SIGSTOP) notices nothing by itself.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    Thread(target=_watch, args=(parent,), name="runfold-parent", daemon=True).start()


def _watch(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(ORPHANED)
