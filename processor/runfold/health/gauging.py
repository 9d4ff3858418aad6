"""What one look of the watchdog comes to, as metrics: the only writer of the gauges that say how the consumer is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import nan

from runfold.health.log_watch import LogWatch
from runfold.health.metrics import Changing, Metrics, by_partition
from runfold.health.stalls import Stall, Stalls
from runfold.health.vitals import Vitals, waiting
from runfold.log.port import HeldBack

OLDEST, STANDING = "oldest_record", "standing_still"
"""What a lag in seconds is the age of."""


class Gauging:
    """Writes ``metrics`` of one process; called on the watchdog's thread alone."""

    def __init__(self, metrics: Metrics, vitals: Vitals, watch: LogWatch, stalls: Stalls) -> None:
        self._metrics, self._vitals, self._watch, self._stalls = metrics, vitals, watch, stalls
        self._position, self._lag = Changing(metrics.position), Changing(metrics.lag)
        self._lag_seconds = Changing(metrics.lag_seconds)
        self._held_back, self._held_back_seconds = Changing(metrics.held_back), Changing(metrics.held_back_seconds)
        self._stuck_since, self._failing_since = Changing(metrics.stuck_since), Changing(metrics.failing_since)

    def write(self, stalls: Sequence[Stall]) -> None:
        """Set everything anew. The heartbeat stands last: it vouches for what stands before it."""
        self._write_process(stalls)
        self._write_partitions()
        self._metrics.heartbeat.set(time.time())

    def _write_process(self, stalls: Sequence[Stall]) -> None:
        metrics, vitals = self._metrics, self._vitals
        metrics.loop_turned.set(_wall(vitals.turned_at))
        metrics.partitions_owned.set(len(vitals.owned))
        metrics.partitions_share.set(nan if vitals.share is None else vitals.share)
        metrics.store_written.set(_wall(vitals.written_at))
        metrics.last_commit.set(_wall(vitals.committed_at))
        metrics.log_silent.set(_wall(self._watch.silent_since))
        metrics.stuck.set(bool(stalls))
        self._stuck_since.tell({_labels_of(stall): _wall(stall.since) for stall in stalls})
        failing = vitals.failing
        self._failing_since.tell({(failing.cause,): _wall(failing.since)} if failing else {})

    def _write_partitions(self) -> None:
        owned, view, now = self._vitals.owned, self._watch.view, time.time()
        if view.partitions is not None:
            self._metrics.partitions.set(view.partitions)
        self._position.tell(by_partition({which: standing.position for which, standing in owned.items()}))
        lags = {which: waiting(standing, view.ends[which]) for which, standing in owned.items() if which in view.ends}
        self._lag.tell(by_partition(lags))
        self._lag_seconds.tell(
            {(str(which), by): age for which in owned for by, age in self._age(which, lags.get(which))}
        )
        held_back = {which: view.held_back.get(which, HeldBack(0, -1)) for which in lags}
        self._held_back.tell(by_partition({which: held.offsets for which, held in held_back.items()}))
        self._held_back_seconds.tell(
            by_partition({which: _age(held.since, now) if held.offsets else 0.0 for which, held in held_back.items()})
        )

    def _age(self, which: int, lag: int | None) -> list[tuple[str, float]]:
        """How long records wait at the partition's position, and what that is the age of; empty where nothing is known.

        What was known of a position that has not moved since stays true while the log does not answer.
        """
        if lag == 0:
            return [(OLDEST, 0.0)]
        oldest, standing = self._watch.oldest.get(which), self._vitals.owned.get(which)
        if oldest and standing and oldest.position == standing.position and oldest.timestamp >= 0:
            return [(OLDEST, max(0.0, time.time() - oldest.timestamp / 1000))]
        since = self._stalls.waiting_since(which)
        return [] if since is None else [(STANDING, time.monotonic() - since)]


def _labels_of(stall: Stall) -> tuple[str, str]:
    return stall.what, "" if stall.partition is None else str(stall.partition)


def _age(milliseconds: int, now: float) -> float | None:
    return None if milliseconds < 0 else max(0.0, now - milliseconds / 1000)


def _wall(monotonic: float | None) -> float:
    """An instant of ``time.monotonic`` in Unix seconds; NaN where there was none."""
    return nan if monotonic is None else time.time() - (time.monotonic() - monotonic)
