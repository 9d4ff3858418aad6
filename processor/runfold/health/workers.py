"""Several processes as one: what a parent that starts workers needs to serve the health and the metrics of them all.

Before it starts the first one, a parent makes a :class:`Workers`. It gives every child ``environment`` (in which
:mod:`runfold.health.metrics` writes into the parent's folder), reads the metrics of all with a
:class:`runfold.health.listening.HealthServer`, and calls :meth:`Workers.ended` with the pid of each child that has ended,
however it ended. That is all: what a child says of itself it says by its metrics, its heartbeat among them, so that one
that hangs is found without its help. Counters of ended children go on counting; their gauges are gone. What only the parent
knows, how many run and how often one was started again, it adds.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

FOLDER = "PROMETHEUS_MULTIPROC_DIR"


class Place(Protocol):
    """A worker's place, as the supervisor knows it."""

    @property
    def alive(self) -> bool: ...
    @property
    def restarts(self) -> int: ...


class Workers:
    """A folder for the metrics of children, for ``with``. ``places`` are those of the supervisor."""

    def __init__(self, places: Sequence[Place] = ()) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="runfold-metrics-"))
        self._places = places

    @property
    def environment(self) -> Mapping[str, str]:
        """What a child's environment has to have; it must be there when the child's interpreter starts."""
        return {FOLDER: str(self.folder)}

    def collect(self) -> Iterator[Metric]:
        """The metrics of all children: see :class:`runfold.health.metrics.Families`."""
        files = [str(path) for path in self.folder.glob("*.db") if _is_begun(path)]
        yield from MultiProcessCollector.merge(files)
        if self._places:
            running = sum(place.alive for place in self._places)
            yield GaugeMetricFamily("runfold_workers", "Workers that there ought to be", len(self._places))
            yield GaugeMetricFamily("runfold_workers_running", "Workers that run", running)
            restarts = sum(place.restarts for place in self._places)
            yield CounterMetricFamily("runfold_worker_restarts", "Workers that were started again", restarts)

    def ended(self, pid: int) -> None:
        """That child is gone: nothing that it said of the present counts any more."""
        mark_process_dead(pid, str(self.folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _is_begun(path: Path) -> bool:
    """A child makes its files empty, and the collector cannot read such; one of a child that has ended may be gone."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False
