"""The wall clock that stamps records and events. It is passed in wherever it is used, so that tests can set it."""

from __future__ import annotations

import time


def wall_clock() -> int:
    """Now, in Unix milliseconds."""
    return time.time_ns() // 1_000_000
