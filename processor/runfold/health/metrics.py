"""The metrics of one process, named once. What a batch came to is counted here; the rest is set at every look.

A metric that is not known is absent, never 0: gauges begin as NaN, and NaN is left out of every answer (:class:`Known`).
With PROMETHEUS_MULTIPROC_DIR in the environment the values stand in files of that folder, from which
:mod:`runfold.health.workers` reads the metrics of several processes as one. There a gauge of a whole process carries its
pid, and one of a partition is whatever its owner said last.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import pairwise
from math import nan
from typing import Literal, Protocol, cast, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.metrics_core import Metric

from runfold.fold.changes import Changes
from runfold.fold.outcome import REASONS, Outcome
from runfold.fold.rules import FOLD_VERSION
from runfold.service.fetching import Batch

disable_created_metrics()  # a second sample for each counter, which says when its process began

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_RECORDS = (1, 4, 16, 64, 256, 1_000, 4_000, 16_000, 40_000, 160_000)
_STAGES = ("fetch", "load", "fold", "apply")
_CAUSES = ("StalePosition", "StoreUnreachable", "LogUnreachable")

_PROCESS: Literal["liveall"] = "liveall"
_OWNER: Literal["livemostrecent"] = "livemostrecent"


class Families(Protocol):
    """Where metrics are read: a registry, or the files of several processes."""

    def collect(self) -> Iterable[Metric]: ...


class Known:
    """The metrics of ``inner`` without the samples that nobody knows."""

    def __init__(self, inner: Families) -> None:
        self._inner = inner

    def collect(self) -> Iterator[Metric]:
        """As :class:`Families`."""
        for metric in self._inner.collect():
            metric.samples = [sample for sample in metric.samples if sample.value == sample.value]  # NaN
            yield metric


class Metrics:
    """All metrics of this process, in ``registry``. Counters and histograms count since the process began."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._count_batches()
        self._count_ownership()
        self._gauge_the_process()
        self._gauge_the_partitions()
        self._gauge_the_store()
        info = self._gauge("build_info", "What runs here", "version", "python", "fold", mode=_OWNER)
        info.labels(version("runfold"), platform.python_version(), str(FOLD_VERSION)).set(1)

    def _count_batches(self) -> None:
        events = self._counter("events", "Records folded and committed, by outcome", "outcome")
        self._events = {outcome: events.labels(outcome) for outcome in get_args(Outcome)}
        self._letters = self._counter("dead_letters", "Records that were rejected, by reason", "reason")
        self._dropped = self._counter("batches_dropped", "Batches that were not committed, by cause", "cause")
        # There from the start, at 0: of a counter that appears with its first event, Prometheus sees no increase.
        for counter, labels in ((self._letters, REASONS), (self._dropped, _CAUSES)):
            for label in labels:
                counter.labels(label)
        self._records = self._histogram("batch_records", "Records of a committed batch", _RECORDS)
        self._bytes = self._counter("batch_bytes", "Bytes of the values of committed records")
        stages = self._histogram("batch_stage_seconds", "How long a committed batch was at a stage", _SECONDS, "stage")
        self._stages = [stages.labels(stage) for stage in _STAGES]
        self.loop_lag = self._histogram("loop_lag_seconds", "How late the fold's event loop comes to a timer", _SECONDS)

    def _count_ownership(self) -> None:
        taken = self._counter(
            "partitions_taken", "Partitions taken, by how: free, or from an owner that fell silent", "how"
        )
        left = self._counter(
            "partitions_left", "Partitions let go of, by how: released, or lost to another owner", "how"
        )
        self._taken = {how: taken.labels(how) for how in ("free", "taken_over")}
        self._left = {how: left.labels(how) for how in ("released", "lost")}

    def _gauge_the_process(self) -> None:
        self.heartbeat = self._gauge("heartbeat_timestamp_seconds", "When the watchdog looked last")
        self.loop_turned = self._gauge(
            "loop_turned_timestamp_seconds", "When the fold's event loop came to a timer last"
        )
        self.partitions_owned = self._gauge("partitions_owned", "Partitions held by this process")
        self.partitions_share = self._gauge("partitions_share", "Partitions that this process ought to hold")
        self.store_written = self._gauge("store_written_timestamp_seconds", "When the store took a write last")
        self.last_commit = self._gauge("last_commit_timestamp_seconds", "When a batch was committed last")
        self.log_silent = self._gauge("log_silent_since_timestamp_seconds", "Since when the log does not answer")
        self.stuck = self._gauge("stuck", "1 where something has stood still for longer than RUNFOLD_STUCK")
        self.stuck_since = self._gauge(
            "stuck_since_timestamp_seconds", "Since when what stands still", "what", "partition"
        )
        self.failing_since = self._gauge("failing_since_timestamp_seconds", "Since when commits fail, and why", "cause")

    def _gauge_the_partitions(self) -> None:
        self.partitions = self._gauge("partitions", "Partitions of the log", mode=_OWNER)
        self.position = self._gauge("position", "Next offset to fold, as committed", "partition", mode=_OWNER)
        self.lag = self._gauge("lag_records", "Offsets between position and end", "partition", mode=_OWNER)
        self.lag_seconds = self._gauge(
            "lag_seconds",
            "How long records wait. by=oldest_record: age of the first one; by=standing_still: seen waiting so long",
            "partition",
            "by",
            mode=_OWNER,
        )
        self.held_back = self._gauge(
            "held_back_records", "Offsets beyond the end that an open transaction blocks", "partition", mode=_OWNER
        )
        self.held_back_seconds = self._gauge(
            "held_back_seconds", "How long the open transaction is open", "partition", mode=_OWNER
        )

    def _gauge_the_store(self) -> None:
        self.runs = self._gauge("runs", "Runs in the store, by status", "status", mode=_OWNER)
        self.odd_runs = {
            name: self._gauge(f"runs_{name}", told, mode=_OWNER)
            for name, told in (
                ("without_created", "Runs that are incomplete: their created has not come"),
                ("missing", "Runs of which numbered events have not come"),
                ("flagged", "Runs that somebody should look at"),
                ("split", "Runs whose events lie on more than one partition"),
            )
        }
        self.standing_letters = self._gauge("dead_letters_kept", "Dead letters in the store", "reason", mode=_OWNER)
        self.stuck_runs = self._gauge(
            "runs_stuck", "Open runs that should have ended or been heard of, by why", "why", mode=_OWNER
        )
        self.counted = self._gauge("runs_counted_timestamp_seconds", "When the store's runs were counted", mode=_OWNER)

    def count_batch(self, batch: Batch, changes: Changes, times: Sequence[float]) -> None:
        """Count a committed batch. ``times``: before load, fold and commit, and after, in seconds."""
        for counts in changes.tally.values():
            for outcome, count in counts.items():
                self._events[cast("Outcome", outcome)].inc(count)
        for letter in changes.letters:
            self._letters.labels(letter.reason).inc()
        self._records.observe(batch.size)
        self._bytes.inc(batch.bytes)
        spent = (batch.seconds, *(after - before for before, after in pairwise(times)))
        for stage, seconds in zip(self._stages, spent, strict=True):
            stage.observe(seconds)

    def count_dropped(self, error: Exception) -> None:
        """Count a batch that was not committed."""
        self._dropped.labels(type(error).__name__).inc()

    def count_taken(self, *, free: int, taken_over: int, lost: int) -> None:
        """Count partitions that came, and those that are not held any more without having been let go of."""
        self._taken["free"].inc(free)
        self._taken["taken_over"].inc(taken_over)
        self._left["lost"].inc(lost)

    def count_released(self, partitions: int) -> None:
        """Count partitions that were let go of."""
        self._left["released"].inc(partitions)

    def _counter(self, name: str, told: str, *labels: str) -> Counter:
        return Counter(f"runfold_{name}", told, labels, registry=self.registry)

    def _histogram(self, name: str, told: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"runfold_{name}", told, labels, buckets=buckets, registry=self.registry)

    def _gauge(
        self, name: str, told: str, *labels: str, mode: Literal["liveall", "livemostrecent"] = _PROCESS
    ) -> Gauge:
        gauge = Gauge(f"runfold_{name}", told, labels, registry=self.registry, multiprocess_mode=mode)
        if not labels:
            gauge.set(nan)
        return gauge


class Changing:
    """A gauge with labels of which some come and go: what was set before and is not set again is unknown from then on."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._set: set[tuple[str, ...]] = set()

    def tell(self, values: Mapping[tuple[str, ...], float]) -> None:
        """Set these values, by their labels, and no others."""
        for labels in self._set - values.keys():
            self._gauge.labels(*labels).set(nan)
        for labels, value in values.items():
            self._gauge.labels(*labels).set(value)
        self._set = set(values)


def by_partition(values: Mapping[int, float | None]) -> dict[tuple[str, ...], float]:
    """Values by partition, as labels; what is not known is left out."""
    return {(str(which),): value for which, value in values.items() if value is not None}
