"""What stands still, and since when. Pure: time is told.

A partition stands still while the log's end is ahead and the position does not move. An end that is not known says nothing:
while the log does not answer, nobody is called stuck for it. A process that was stopped as a whole and goes on is given its
time anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from runfold.health.vitals import Standing, waiting

POSITION, LOOP, TAKING = "position", "loop", "taking"


class Stall(NamedTuple):
    """What stands still since when: a partition's position, the fold's event loop, or the taking of partitions."""

    what: str
    since: float
    partition: int | None = None


class _Seen(NamedTuple):
    position: int
    since: float


class Stalls:
    """Looked at again and again; ``bound`` is after how many seconds of standing still something is stuck."""

    def __init__(self, bound: float) -> None:
        self._bound = bound
        self._seen: dict[int, _Seen] = {}
        self._looked_at: float | None = None
        self._awake_since = 0.0

    def look(self, owned: Mapping[int, Standing], ends: Mapping[int, int], *, now: float) -> None:
        """Note where the partitions stand. What comes much later than it should was stopped as a whole."""
        if self._looked_at is None or now - self._looked_at > self._bound * 0.75:
            self._seen, self._awake_since = {}, now
        self._looked_at = now
        standing = {}
        for which, held in owned.items():
            if which in ends and waiting(held, ends[which]):
                seen = self._seen.get(which)
                standing[which] = seen if seen and seen.position == held.position else _Seen(held.position, now)
        self._seen = standing

    def waiting_since(self, partition: int) -> float | None:
        """Since when records were seen to wait at this partition's position; None where none do, as far as is known."""
        seen = self._seen.get(partition)
        return seen.since if seen else None

    def found(self, *, loop_turned_at: float, taking_since: float | None, now: float) -> list[Stall]:
        """All that has stood still for longer than the bound."""
        stalls = [Stall(POSITION, seen.since, which) for which, seen in sorted(self._seen.items())]
        stalls.append(Stall(LOOP, max(loop_turned_at, self._awake_since)))
        if taking_since is not None:
            stalls.append(Stall(TAKING, max(taking_since, self._awake_since)))
        return [stall for stall in stalls if now - stall.since > self._bound]
