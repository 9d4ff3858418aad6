"""Health and readiness are judged from metrics alone: each fact that is wrong is a reason, and none is made up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from runfold.health.metrics import Metrics
from runfold.health.verdict import SILENT_SECONDS, Limits, Reason, health, readiness

LIMITS = Limits(lag=30, store_silence=10)


@pytest.fixture
def now() -> float:
    return time.time()


@pytest.fixture
def metrics(now: float) -> Metrics:
    """Those of a process that is well: two partitions, all its share, caught up, written just now."""
    made = Metrics()
    for gauge in (made.heartbeat, made.loop_turned, made.store_written):
        gauge.set(now)
    made.partitions_owned.set(2)
    made.partitions_share.set(2)
    for which in ("0", "1"):
        made.position.labels(which).set(5)
        made.lag.labels(which).set(0)
        made.lag_seconds.labels(which, "oldest_record").set(0)
        made.held_back.labels(which).set(0)
    return made


def reasons(metrics: Metrics, now: float) -> list[Reason]:
    return readiness(metrics.registry, limits=LIMITS, now=now).reasons


def test_who_is_well_is_healthy_and_ready(metrics: Metrics, now: float) -> None:
    """Where nothing is wrong there is no reason, and nothing to note."""
    for verdict in (health(metrics.registry, now=now), readiness(metrics.registry, limits=LIMITS, now=now)):
        assert (verdict.ok, verdict.reasons, verdict.notes) == (True, [], [])


def test_nothing_known_is_not_well() -> None:
    """Before the first look nobody is called healthy."""
    assert health(Metrics().registry, now=time.time()).reasons == [Reason(told="nothing has been looked at yet")]


def test_a_process_that_is_silent_is_unhealthy(metrics: Metrics, now: float) -> None:
    """A process whose heartbeat is too old is hung, or gone, whatever its other metrics say."""
    metrics.heartbeat.set(now - SILENT_SECONDS - 1)
    (reason,) = health(metrics.registry, now=now).reasons
    assert reason.seconds == SILENT_SECONDS + 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda made, _: made.partitions_share.set(3), "2 partitions are held, and 3 ought to be"),
        (lambda made, _: made.partitions_share.set(float("nan")), "no partitions have been taken yet"),
        (lambda made, now: made.store_written.set(now - 11), "the store does not take writes"),
        (lambda made, now: made.log_silent.set(now - 1), "the log does not answer"),
        (lambda made, now: made.failing_since.labels("StalePosition").set(now - 1), "batches are dropped (StalePosition)"),
        (lambda made, _: made.lag_seconds.labels("1", "oldest_record").set(31), "partition 1: records have waited for 31.0 s"),
        (
            lambda made, _: made.lag_seconds.labels("1", "oldest_record").set(float("nan")),
            "partition 1: how far it is behind is not known",
        ),
    ],
    ids=["share", "nothing taken", "store", "log", "failing", "behind", "unknown"],
)  # fmt: skip
def test_what_makes_unready_leaves_alive(
    metrics: Metrics, now: float, change: Callable[[Metrics, float], Any], words: str
) -> None:
    """Each of these is a reason not to be ready, and none to be restarted."""
    change(metrics, now)
    (reason,) = reasons(metrics, now)
    assert reason.told.startswith(words)
    assert health(metrics.registry, now=now).ok


def test_a_lag_within_the_bound_is_ready(metrics: Metrics, now: float) -> None:
    """Records may wait for as long as the bound says."""
    metrics.lag.labels("1").set(1_000_000)
    metrics.lag_seconds.labels("1", "oldest_record").set(30)
    assert reasons(metrics, now) == []


def test_a_blocking_transaction_is_noted(metrics: Metrics, now: float) -> None:
    """A partition that an open transaction blocks makes nobody unhealthy or unready: it is named, and since when."""
    metrics.held_back.labels("1").set(7)
    metrics.held_back_seconds.labels("1").set(600)
    verdict = readiness(metrics.registry, limits=LIMITS, now=now)
    (note,) = verdict.notes
    assert verdict.ok
    assert (note.partition, note.seconds) == (1, 600)
    assert "7 offsets are blocked by an open transaction" in note.told


def test_what_is_stuck_says_since_when(metrics: Metrics, now: float) -> None:
    """A stuck partition is a reason in both answers, with its number and since when."""
    metrics.stuck_since.labels("position", "1").set(now - 90)
    (alive,), (ready,) = health(metrics.registry, now=now).reasons, reasons(metrics, now)
    assert alive == ready
    assert (alive.partition, alive.seconds) == (1, 90)
    assert alive.since is not None
    assert alive.since.endswith("+00:00")
