"""A watched service, asked over HTTP while it works, hangs and recovers; figures add up with the store's."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from probing import Figures, Reply, code
from serving import Scripted, fill, messages, settings_of, traffic

from runfold import wiring
from runfold.fold.batch import PartitionFold
from runfold.health import census, verdict
from runfold.health.gauging import Gauging
from runfold.log.port import LogUnreachable, Message
from runfold.log.sqlite import SqliteSource
from runfold.store.port import StoreUnreachable
from runfold.store.sqlite import SqliteStore
from runfold_schemas import RunCompleted, RunCreated

Watch = Callable[..., Any]


def told(reply: Reply) -> list[str]:
    return [reason["told"] for reason in reply.json["reasons"]]


def says(*words: str) -> Callable[[Reply], bool]:
    """The answer is no, and a reason has all these words."""
    return lambda reply: reply.code == 503 and any(all(word in line for word in words) for line in told(reply))


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """A data folder whose log has 300 records in three partitions."""
    await fill(tmp_path, messages(traffic(300)))
    return tmp_path


def counted_at(reply: Reply) -> float:
    """When the store's runs were counted; 0 where they were not."""
    return Figures(reply.body.decode()).all("runs_counted_timestamp_seconds").get((), 0)


class Gate:
    """Holds up calls while it is closed."""

    def __init__(self) -> None:
        self.open, self.reached = asyncio.Event(), asyncio.Event()

    async def hold(self, real: Callable[..., Any], *given: Any, **options: Any) -> Any:
        self.reached.set()
        await self.open.wait()
        return await real(*given, **options)


async def test_figures_add_up_with_the_store(folder: Path, watching: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events by outcome, letters, positions and runs are those of the store, to the last event."""
    monkeypatch.setattr(census, "LEAST_PAUSE", 0.1)
    written = messages(traffic(300))
    await fill(folder, [*written[:20], Message(b"run_x", b"\xc1"), Message(b"run_y", b"")])
    async with watching(batch_records=50) as (service, probe):
        await service.folded(322)
        await probe.until("/readyz", code(200))
        folded = time.time()
        await probe.until("/metrics", lambda reply: counted_at(reply) > folded)
        found = await probe.metrics()
    store = wiring.open_store(settings_of(folder))
    await store.open(write=False)
    standing, letters, runs = await store.partitions(), await store.count_letters(), await store.count_runs()
    await store.close()
    tally: Counter[str] = Counter()
    for partition in standing:
        tally.update(partition.tally)
    events = {outcome: count for (outcome,), count in found.all("events_total").items() if count}
    assert events == dict(tally)
    assert sum(events.values()) == 322
    rejected = {reason: count for reason, count in found.all("dead_letters_total").items() if count}
    assert rejected == found.all("dead_letters_kept") == {(reason,): count for reason, count in letters.items()}
    assert found.all("position") == {(str(each.partition),): each.position for each in standing}
    assert found.one("batch_records_sum") == 322
    odd = {name: found.one(f"runs_{name}") for name in ("without_created", "missing", "flagged", "split")}
    assert {status: count for (status,), count in found.all("runs").items()} | odd == runs


async def test_stuck_runs_are_counted(tmp_path: Path, watching: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open runs past their expires_at, and open runs that were not heard of for too long, are counted by why."""
    monkeypatch.setattr(census, "LEAST_PAUSE", 0.1)
    monkeypatch.setattr(census, "_OPEN_RUNS", 2)  # so that they are asked for by several questions
    now = int(time.time() * 1000)

    def created(run_id: str, *, age: int, **told: Any) -> RunCreated:
        return RunCreated(id="e1", run_id=run_id, thread_id="t", occurred_at=now - age * 1000, **told)

    silent = [created(f"run_silent_{number}", age=3_600) for number in range(3)]
    expired = created("run_expired", age=3_600, expires_at=now // 1000 - 1)
    well = created("run_well", age=1, expires_at=now // 1000 + 3_600)
    ended = RunCompleted(id="e2", run_id="run_ended", thread_id="t", occurred_at=now - 3_500_000)
    await fill(tmp_path, messages([*silent, expired, well, created("run_ended", age=3_600), ended]))
    async with watching(api_silent=600) as (service, probe):
        await service.folded(7)
        folded = time.time()
        await probe.until("/metrics", lambda reply: counted_at(reply) > folded)
        found = await probe.metrics()
    assert found.all("runs_stuck") == {("expired",): 1, ("silent",): 4}


async def test_every_stage_is_timed(folder: Path, watching: Watch) -> None:
    """Each batch is timed at each stage."""
    async with watching(batch_records=50) as (service, probe):
        await service.folded(300)
        found = await probe.metrics()
    batches = len(service.events("batch_committed"))
    assert found.all("batch_stage_seconds_count") == dict.fromkeys(
        [("fetch",), ("load",), ("fold",), ("apply",)], batches
    )
    assert found.one("batch_records_count") == batches


async def test_ready_when_caught_up(folder: Path, watching: Watch) -> None:
    """Not ready before the first batch is committed, ready after; alive all the time."""
    gate = Gate()
    store = Scripted(SqliteStore(folder / "runfold.db"), apply=gate.hold)
    async with watching(store=store) as (service, probe):
        await gate.reached.wait()
        behind = await probe.until("/readyz", says("records have waited for", "offsets behind"))
        assert (await probe.ask("/healthz")).code == 200
        gate.open.set()
        await service.folded(300)
        await probe.until("/readyz", code(200))
    assert {reason["partition"] for reason in behind.json["reasons"]} == {0, 1, 2}
    assert all(reason["since"] for reason in behind.json["reasons"])


async def test_lag_is_told_while_stalled(folder: Path, watching: Watch) -> None:
    """While the store hangs, lag in offsets is what waits, and lag in seconds the growing age of the oldest record."""
    gate = Gate()
    store = Scripted(SqliteStore(folder / "runfold.db"), apply=gate.hold)
    async with watching(store=store) as (service, probe):
        await gate.reached.wait()
        await probe.until("/metrics", lambda reply: b"\nrunfold_lag_records{" in reply.body)
        first = await probe.metrics()
        await fill(folder, messages(traffic(50, seed=9)))
        await asyncio.sleep(2.2)  # two looks of the watchdog
        later = await probe.metrics()
        gate.open.set()
        await service.folded(350)
    assert (sum(first.all("lag_records").values()), sum(later.all("lag_records").values())) == (300, 350)
    ages = [
        {labels[1]: value for labels, value in found.all("lag_seconds").items() if labels[0] == "oldest_record"}
        for found in (first, later)
    ]
    assert ages[0].keys() == ages[1].keys() == {"0", "1", "2"}
    assert all(1 < ages[1][which] - ages[0][which] < 30 for which in ages[0])


async def test_a_hung_store_is_stuck_and_recovers(folder: Path, watching: Watch) -> None:
    """A store that hangs makes the service unhealthy within its bound, by partition and since when; then well again."""
    gate = Gate()
    store = Scripted(SqliteStore(folder / "runfold.db"), apply=gate.hold)
    async with watching(store=store, stuck=1) as (service, probe):
        await gate.reached.wait()
        stuck = await probe.until("/healthz", code(503), within=30)
        found = await probe.metrics()
        gate.open.set()
        await probe.until("/healthz", code(200), within=30)
        well = await probe.metrics()
        await service.said("stuck_no_more")
    assert {reason["partition"] for reason in stuck.json["reasons"]} <= {0, 1, 2}
    assert "the position does not move" in told(stuck)[0]
    assert stuck.json["reasons"][0]["seconds"] >= 1
    assert (found.one("stuck"), well.one("stuck")) == (1, 0)
    assert well.all("stuck_since_timestamp_seconds") == {}
    assert service.events("stuck")[0]["what"] == "position"


async def test_a_hung_fold_is_stuck(folder: Path, watching: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fold that does not come back is seen, although the event loop turns and the store answers."""
    hung, fold = threading.Event(), PartitionFold.fold

    def hang(self: PartitionFold, *given: Any, **options: Any) -> None:
        hung.wait()
        fold(self, *given, **options)

    monkeypatch.setattr(PartitionFold, "fold", hang)
    async with watching(stuck=1) as (service, probe):
        try:
            await probe.until("/healthz", says("the position does not move"), within=30)
        finally:
            hung.set()
        await service.folded(300)
        await probe.until("/healthz", code(200), within=30)


async def test_a_blocked_loop_still_answers(folder: Path, watching: Watch) -> None:
    """While the fold's event loop is blocked, health is answered, and says so."""
    replies: list[Reply] = []

    async with watching(stuck=1) as (service, probe):
        await service.folded(300)
        await probe.until("/healthz", code(200))

        def ask_for_a_while() -> None:
            for _ in range(30):
                replies.append(probe._ask("/healthz", "GET"))
                time.sleep(0.1)

        asking = asyncio.create_task(asyncio.to_thread(ask_for_a_while))
        await asyncio.sleep(0.1)
        time.sleep(2.5)  # noqa: ASYNC251 - on purpose
        await asking
        await probe.until("/healthz", code(200), within=30)
        late = (await probe.metrics()).one("loop_lag_seconds_sum")
    assert len(replies) == 30
    assert any("event loop" in line for reply in replies for line in told(reply))
    assert late > 2


@pytest.mark.parametrize("method", ["open", "claim"])
async def test_partitions_that_cannot_be_taken_are_stuck(folder: Path, watching: Watch, method: str) -> None:
    """A store that hangs before the first partition is taken is found too, also while it is opened."""
    gate = Gate()
    store = Scripted(SqliteStore(folder / "runfold.db"), **{method: gate.hold})
    async with watching(store=store, stuck=1) as (_, probe):
        await probe.until("/healthz", says("cannot be taken"), within=30)
        gate.open.set()
        await probe.until("/readyz", code(200))


async def test_a_watchdog_that_died_is_unhealthy(
    folder: Path, watching: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody watches the watchdog: that it has died is seen by its heartbeat, and told with its error."""
    monkeypatch.setattr(verdict, "SILENT_SECONDS", 1.0)
    async with watching() as (service, probe):
        await probe.until("/readyz", code(200))
        monkeypatch.setattr(Gauging, "write", lambda *_: 1 / 0)
        await probe.until("/healthz", says("does not show that it is alive"), within=30)
        assert service.events("watchdog_died")[0]["exc_info"]


async def test_waiting_for_a_log_is_alive_and_not_ready(tmp_path: Path, watching: Watch) -> None:
    """Without a log the service is healthy and not ready, for as long as it lasts."""
    async with watching(stuck=1) as (service, probe):
        await service.said("waiting_for_log")
        await asyncio.sleep(2)  # longer than the bound
        assert (await probe.ask("/healthz")).code == 200
        assert "the log does not answer" in told(await probe.ask("/readyz"))


async def test_commits_that_fail_are_told(folder: Path, watching: Watch) -> None:
    """While batches are dropped the service is not ready, and says of what kind the error is, but not its words."""

    async def fail(*_: Any, **__: Any) -> None:
        raise StoreUnreachable("postgresql://me:secret@host is away")

    store = Scripted(SqliteStore(folder / "runfold.db"), apply=fail)
    async with watching(store=store) as (_, probe):
        reply = await probe.until("/readyz", says("batches are dropped (StoreUnreachable)"))
        found = await probe.metrics()
    assert b"secret" not in reply.body
    assert found.one("batches_dropped_total", "StoreUnreachable") >= 1


async def test_a_store_that_takes_no_renewal_is_not_ready(folder: Path, watching: Watch) -> None:
    """On an idle log it is the renewals that tell whether the store can be written."""

    async def fail(*_: Any, **__: Any) -> None:
        raise StoreUnreachable("away")

    store = Scripted(SqliteStore(folder / "runfold.db"), renew=fail)
    async with watching(store=store, lease=1) as (service, probe):
        await service.folded(300)
        await probe.until("/readyz", says("the store does not take writes"))
        assert (await probe.ask("/healthz")).code == 200


async def test_a_log_that_is_away_accuses_nobody(folder: Path, watching: Watch, monkeypatch: Any) -> None:
    """While the log does not answer lag is absent, readiness says why, and nothing is called stuck."""
    away = True
    ranges = SqliteSource.ranges

    async def answer(self: SqliteSource, partitions: Any) -> Any:
        if away:
            raise LogUnreachable("away")
        return await ranges(self, partitions)

    async with watching(stuck=1) as (service, probe):
        await service.folded(300)
        monkeypatch.setattr(SqliteSource, "ranges", answer)
        await probe.until("/readyz", says("the log does not answer"))
        await asyncio.sleep(1.5)  # longer than the bound
        found = await probe.metrics()
        assert (await probe.ask("/healthz")).code == 200
        away = False
        await probe.until("/readyz", code(200))
    assert found.all("lag_records") == {}
    assert found.all("position").keys() == {("0",), ("1",), ("2",)}


async def test_the_line_of_a_batch_has_the_lag(folder: Path, watching: Watch) -> None:
    """The canonical line says how much waits behind the batch, once the ends are known; it is never a guess."""
    gate = Gate()
    store = Scripted(SqliteStore(folder / "runfold.db"), apply=gate.hold)
    async with watching(store=store, batch_records=100) as (service, probe):
        await probe.until("/metrics", lambda reply: b"\nrunfold_lag_records{" in reply.body)
        gate.open.set()
        await service.folded(300)
        lines = service.events("batch_committed")
    assert [line["lag"] for line in lines[:3]] == [200, 100, 0]
    assert all(line["bytes"] > 0 for line in lines)
