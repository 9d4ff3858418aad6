"""Alive? Ready? Judged from the metrics alone, so that one process and a parent of several are judged by the same code.

*Healthy* is a consumer that is alive and not stuck: restarting an unhealthy one may help. *Ready* is one that is healthy,
holds its share, is caught up and can write its store. A partition that an open transaction blocks is neither: it is named,
and somebody else has to act.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime

from msgspec import Struct

from runfold.health.metrics import Families, Known
from runfold.health.stalls import LOOP, POSITION, TAKING

SILENT_SECONDS = 15.0
"""After so long without a look of its watchdog a process counts as hung; a look itself is bounded by less."""

_SAYINGS = {
    POSITION: "partition {partition}: the log is ahead, and the position does not move",
    LOOP: "the fold's event loop does not turn",
    TAKING: "the partitions cannot be taken",
}


class Limits(Struct, frozen=True, kw_only=True):
    """What is still ready: seconds of lag, and seconds since the store took a write (renewals of leases are writes)."""

    lag: float
    store_silence: float


class Reason(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong: in words, since when (ISO 8601, UTC) and of which partition and process, where known."""

    told: str
    since: str | None = None
    seconds: float | None = None
    partition: int | None = None
    pid: int | None = None


class Verdict(Struct, frozen=True, kw_only=True):
    """The answer, why it is no, and what is worth knowing although it does not count."""

    ok: bool
    reasons: list[Reason]
    notes: list[Reason]


class Facts:
    """The samples that there are, by the name of their metric."""

    def __init__(self, families: Families, *, now: float) -> None:
        self._samples: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
        self.now = now
        for metric in Known(families).collect():
            for sample in metric.samples:
                self._samples[sample.name].append((sample.labels, sample.value))

    def of(self, name: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each sample; labels have ``pid`` where there are several processes."""
        return self._samples.get(f"runfold_{name}", [])

    def by(self, label: str, name: str) -> dict[str, float]:
        """Values by one label; "" where a sample has none."""
        return {labels.get(label, ""): value for labels, value in self.of(name)}

    def reason(self, told: str, labels: dict[str, str] | None = None, *, since: float | None = None) -> Reason:
        """A reason in words, with what the labels say; ``since`` is in Unix seconds."""
        labels = labels or {}
        return Reason(
            told=told,
            since=None if since is None else datetime.fromtimestamp(since, UTC).isoformat(timespec="milliseconds"),
            seconds=None if since is None else round(max(0.0, self.now - since), 1),
            partition=int(labels["partition"]) if labels.get("partition") else None,
            pid=int(labels["pid"]) if labels.get("pid") else None,
        )


def health(families: Families, *, now: float) -> Verdict:
    """Alive and not stuck? ``now`` is in Unix seconds."""
    facts = Facts(families, now=now)
    return _verdict(facts, list(_stuck(facts)))


def readiness(families: Families, *, limits: Limits, now: float) -> Verdict:
    """Healthy, in possession of its share, caught up, and able to write?"""
    facts = Facts(families, now=now)
    reasons = [
        *_stuck(facts),
        *_not_running(facts),
        *_not_owning(facts),
        *_behind(facts, limits.lag),
        *_not_writing(facts, limits.store_silence),
    ]
    return _verdict(facts, reasons)


def _verdict(facts: Facts, reasons: list[Reason]) -> Verdict:
    return Verdict(ok=not reasons, reasons=reasons, notes=list(_blocked(facts)))


def _stuck(facts: Facts) -> Iterator[Reason]:
    beats = facts.of("heartbeat_timestamp_seconds")
    if not beats:
        yield facts.reason("nothing has been looked at yet")
    for labels, beat in beats:
        if facts.now - beat > SILENT_SECONDS:
            yield facts.reason("the process does not show that it is alive", labels, since=beat)
    for labels, since in facts.of("stuck_since_timestamp_seconds"):
        yield facts.reason(_SAYINGS[labels["what"]].format(**labels), labels, since=since)


def _not_running(facts: Facts) -> Iterator[Reason]:
    for (_, wanted), (_, running) in zip(facts.of("workers"), facts.of("workers_running"), strict=True):
        if running < wanted:
            yield facts.reason(f"{running:.0f} workers run, and {wanted:.0f} ought to")


def _not_owning(facts: Facts) -> Iterator[Reason]:
    shares = facts.by("pid", "partitions_share")
    for labels, owned in facts.of("partitions_owned"):
        share = shares.get(labels.get("pid", ""))
        if share is None:
            yield facts.reason("no partitions have been taken yet", labels)
        elif owned < share:
            yield facts.reason(f"{owned:.0f} partitions are held, and {share:.0f} ought to be", labels)


def _behind(facts: Facts, bound: float) -> Iterator[Reason]:
    for labels, since in facts.of("log_silent_since_timestamp_seconds"):
        yield facts.reason("the log does not answer", labels, since=since)
    lags, ages = facts.by("partition", "lag_records"), facts.by("partition", "lag_seconds")
    for labels, _ in facts.of("position"):
        lag, age = lags.get(labels["partition"]), ages.get(labels["partition"])
        where = f"partition {labels['partition']}"
        if age is not None and age > bound:
            behind = "" if lag is None else f", {lag:.0f} offsets behind"
            yield facts.reason(f"{where}: records have waited for {age:.1f} s{behind}", labels, since=facts.now - age)
        elif age is None:
            yield facts.reason(f"{where}: how far it is behind is not known", labels)


def _not_writing(facts: Facts, bound: float) -> Iterator[Reason]:
    for labels, since in facts.of("failing_since_timestamp_seconds"):
        yield facts.reason(f"batches are dropped ({labels['cause']})", labels, since=since)
    for labels, written in facts.of("store_written_timestamp_seconds"):
        if facts.now - written > bound:
            yield facts.reason("the store does not take writes", labels, since=written)


def _blocked(facts: Facts) -> Iterator[Reason]:
    ages = facts.by("partition", "held_back_seconds")
    for labels, offsets in facts.of("held_back_records"):
        if offsets:
            age = ages.get(labels["partition"])
            told = f"partition {labels['partition']}: {offsets:.0f} offsets are blocked by an open transaction"
            yield facts.reason(told, labels, since=None if age is None else facts.now - age)
