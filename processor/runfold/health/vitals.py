"""What one consumer is doing now: told by the fold's event loop, read by the watchdog's thread.

No lock is held between the two. Whatever changes is replaced whole and never altered in place, so that a reader sees one
state of it. Times are those of ``time.monotonic``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from runfold.fold.changes import Changes
from runfold.health.metrics import Metrics
from runfold.service.fetching import Batch

TICK_SECONDS = 0.25
"""How often the fold's event loop shows that it turns."""


class Standing(NamedTuple):
    """Where a partition stands: the committed position, and up to where the log was read with nothing left in hand."""

    position: int
    read_to: int


class Failing(NamedTuple):
    """Commits fail: for what kind of cause, and since when."""

    cause: str
    since: float


class Vitals:
    """The consumer's observer (:class:`runfold.service.observer.Observer`). ``ends`` is the watchdog's to set."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.owned: Mapping[int, Standing] = {}
        self.ends: Mapping[int, int] = {}
        self.share: int | None = None
        self.wanting_since: float | None = None
        self.failing: Failing | None = None
        self.committed_at: float | None = None
        self.written_at: float | None = None
        self.turned_at = time.monotonic()

    def partitions_wanted(self) -> None:
        """As the port says."""
        self.wanting_since = self.wanting_since or time.monotonic()

    def partitions_taken(self, positions: Mapping[int, int], *, share: int, taken_over: Collection[int] = ()) -> None:
        """As the port says."""
        came, went = set(positions) - set(self.owned), set(self.owned) - set(positions)
        others = came & set(taken_over)
        self._metrics.count_taken(free=len(came) - len(others), taken_over=len(others), lost=len(went))
        self.owned = {which: Standing(position, position) for which, position in positions.items()}
        self.share, self.wanting_since, self.written_at = share, None, time.monotonic()

    def partitions_released(self, partitions: Collection[int]) -> None:
        """As the port says."""
        self._metrics.count_released(len(partitions))
        self.owned = {which: standing for which, standing in self.owned.items() if which not in partitions}

    def leases_renewed(self) -> None:
        """As the port says."""
        self.written_at = time.monotonic()

    def batch_committed(self, batch: Batch, changes: Changes, times: Sequence[float]) -> None:
        """As the port says."""
        self._metrics.count_batch(batch, changes, times)
        moved = {which: Standing(position, position) for which, position in batch.positions.items()}
        self.owned = {**self.owned, **moved}
        self.failing, self.committed_at = None, time.monotonic()
        self.written_at = self.committed_at

    def batch_dropped(self, error: Exception) -> None:
        """As the port says."""
        self._metrics.count_dropped(error)
        cause = type(error).__name__
        if self.failing is None or self.failing.cause != cause:
            self.failing = Failing(cause, time.monotonic())

    def log_read(self, positions: Mapping[int, int]) -> None:
        """As the port says."""
        self.failing = None
        self.owned = {
            which: standing._replace(read_to=max(standing.read_to, positions.get(which, 0)))
            for which, standing in self.owned.items()
        }

    def lag(self, partitions: Collection[int]) -> int | None:
        """As the port says. An end that was passed since it was looked at says nothing any more."""
        owned, ends = self.owned, self.ends
        if any(which not in owned or owned[which].position > ends.get(which, -1) for which in partitions):
            return None
        return sum(waiting(owned[which], ends[which]) for which in partitions)

    async def tick(self) -> None:
        """Show that the event loop turns, and how late it comes to it; until cancelled."""
        while True:
            due = time.monotonic() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            self.turned_at = time.monotonic()
            self._metrics.loop_lag.observe(max(0.0, self.turned_at - due))


def waiting(standing: Standing, end: int) -> int:
    """How many offsets wait to be folded; none where the log was read to its end, which may hold no record."""
    return 0 if standing.read_to >= end else end - standing.position
