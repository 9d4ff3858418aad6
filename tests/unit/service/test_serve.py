"""One service: what it waits for, what ends it, and that whatever ends it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from serving import Scripted, fill, fold_quietly, messages, serving, settings_of, stored, traffic

from runfold.log.port import LogUnreachable
from runfold.log.sqlite import SqliteSource
from runfold.service import serve as service_module
from runfold.service.observer import Unobserved
from runfold.service.serve import DrainExceeded, Orders, work
from runfold.store.port import StalePosition, StoreBusy, StoreRefused, StoreUnreachable
from runfold.store.sqlite import SqliteStore


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """A data folder whose log has 100 records."""
    await fill(tmp_path, messages(traffic(100)))
    return tmp_path


def scripted_store(folder: Path, **methods: Callable[..., Any]) -> Any:
    return Scripted(SqliteStore(folder / "runfold.db"), **methods)


def failing(error: Exception, *, times: int = 10**9) -> Callable[..., Any]:
    left = iter(range(times))

    async def fail(real: Callable[..., Any], *given: Any, **options: Any) -> Any:
        if next(left, None) is None:
            return await real(*given, **options)
        raise error

    return fail


async def test_a_store_that_fails_at_first_is_borne(folder: Path) -> None:
    """Partitions that cannot be taken yet are taken a little later: a store may be lost just when a service begins."""
    store = scripted_store(folder, claim=failing(StoreUnreachable("away"), times=2))
    async with serving(folder, store=store, until_end=True) as service:
        assert await service.failure() is None
    assert [line["reason"] for line in service.events("batch_dropped")] == ["away", "away"]
    assert (await stored(folder)).records == 100


@pytest.mark.parametrize("lost", ["open", "bury"])
async def test_who_takes_a_dead_ones_place_bears_with_a_store_that_is_away(folder: Path, lost: str) -> None:
    """One that is started again waits for a store that is away just then: giving up, it would end the whole service."""
    store = scripted_store(folder, **{lost: failing(StoreUnreachable("away"), times=2)})
    orders, source = Orders(until_end=True, dead=("gone",)), SqliteSource(folder / "runfold.log.db")
    await work(settings_of(folder), source, store, orders, stop=asyncio.Event(), observer=Unobserved())
    assert (await stored(folder)).records == 100


async def test_whoever_begins_is_told_at_once_that_the_store_is_away(folder: Path) -> None:
    """At a first start the settings may be wrong: nobody is kept waiting for the reason."""
    away = StoreUnreachable("away")
    async with serving(folder, store=scripted_store(folder, open=failing(away))) as service:
        assert await service.failure() is away
    assert not service.events("not_started_yet")


async def test_leases_are_renewed_while_the_log_does_not_answer(folder: Path) -> None:
    """A log that hangs costs nobody a partition: it is not waited for between two renewals."""
    hanging, renewals = asyncio.Event(), 0

    async def partitions(real: Callable[..., Any]) -> int:
        if service.events("partitions_taken"):
            hanging.set()
            await asyncio.Event().wait()
        return int(await real())

    async def renew(real: Callable[..., Any], *given: Any, **options: Any) -> Any:
        nonlocal renewals
        renewals += hanging.is_set()
        return await real(*given, **options)

    source = Scripted(SqliteSource(folder / "runfold.log.db"), partitions=partitions)
    async with serving(folder, source=source, store=scripted_store(folder, renew=renew), lease=1) as service:
        await service.until(lambda: renewals >= 3)
        await service.end()


async def test_leases_that_are_gone_are_told_once(folder: Path) -> None:
    """Claimed anew, and then the log does not answer: that the leases from before are gone is told at one renewal only."""
    away, renewals = asyncio.Event(), list[set[int]]()

    def lost(error: Exception) -> Callable[..., Any]:
        async def fail(real: Callable[..., Any], *given: Any) -> Any:
            if away.is_set():
                raise error
            return await real(*given)

        return fail

    async def renew(real: Callable[..., Any], *given: Any, **options: Any) -> Any:
        renewals.append(await real(*given, **options))
        return renewals[-1]

    store = scripted_store(folder, renew=renew, apply=lost(StoreUnreachable("away")))
    source = Scripted(SqliteSource(folder / "runfold.log.db"), record_at=lost(LogUnreachable("away")))
    async with serving(folder, store=store, source=source, lease=1) as service:
        await service.folded(100)
        await service.until(lambda: renewals)
        away.set()
        await fill(folder, messages(traffic(10, seed=8)))
        await service.said("leases_lost")
        seen = len(renewals)
        await service.until(lambda: len(renewals) >= seen + 3)
        assert len(service.events("leases_lost")) == 1
        away.clear()
        await service.folded(110)
        await service.end()


async def test_until_end_is_up_to_the_end_there_was(folder: Path) -> None:
    """With until_end the service ends by itself when everything is folded that the log had when it began."""
    async with serving(folder, until_end=True, batch_records=7) as service:
        assert await service.failure() is None
    assert (await stored(folder)).records == 100


async def test_until_end_of_an_empty_log(tmp_path: Path) -> None:
    """With until_end an empty log is folded at once."""
    await fill(tmp_path, [])
    async with serving(tmp_path, until_end=True) as service:
        assert await service.failure() is None
    assert not service.events("batch_committed")


async def test_any_batching_gives_the_same_store(folder: Path) -> None:
    """However the log is cut into batches, the store is the same."""
    quiet = await fold_quietly(folder)
    for records in (1, 9, 50):
        assert await fold_quietly(folder, batch_records=records) == quiet


async def test_few_runs_in_memory(folder: Path) -> None:
    """With fewer runs in memory than are open, runs come back from the store as they went."""
    written = messages(traffic(1_000, open_runs=300))
    await fill(folder, written)
    async with serving(folder, until_end=True, open_runs=100, batch_records=20) as service:
        assert await service.failure() is None
    assert await stored(folder) == await fold_quietly(folder)


async def test_a_renewal_that_fails_is_borne(folder: Path) -> None:
    """A lease that cannot be renewed for now is told, once an outage, and folding goes on."""
    asked, fail = 0, failing(StoreUnreachable("away"), times=3)

    async def renew(*given: Any, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        return await fail(*given, **options)

    async with serving(folder, store=scripted_store(folder, renew=renew), lease=1) as service:
        await service.until(lambda: asked == 2)
        await fill(folder, messages(traffic(10, seed=8)))
        await service.folded(110)
        await service.until(lambda: asked > 4)  # three in vain
        assert len(service.events("leases_not_renewed")) == 1
        await service.end()


@pytest.mark.parametrize("error", [StoreRefused("of another log"), RuntimeError("a bug")], ids=["refused", "bug"])
async def test_a_keeper_that_dies_ends_the_service(folder: Path, error: Exception) -> None:
    """Where the leases can be kept no longer for good, the service ends with that error; it never folds on without."""
    async with serving(folder, store=scripted_store(folder, renew=failing(error)), lease=1) as service:
        assert await service.failure() is error


async def test_a_bug_in_the_store_ends_the_service(folder: Path) -> None:
    """An error that is neither the store's nor the log's own passes through at once, and is not tried again."""
    error = RuntimeError("a bug")
    store = scripted_store(folder, apply=failing(error))
    async with serving(folder, store=store) as service:
        assert await service.failure() is error
    assert not service.events("batch_dropped")


async def test_refusals_without_end_end_the_service(folder: Path) -> None:
    """A store that refuses every commit is not asked without a pause, and not for ever."""
    store = scripted_store(folder, apply=failing(StalePosition("moved")))
    async with serving(folder, store=store, patience=0.3) as service:
        assert isinstance(await service.failure(), StalePosition)
    assert 3 < len(service.events("partitions_taken")) < 60


async def test_another_owner_is_waited_for(folder: Path) -> None:
    """Partitions that somebody else holds are asked for again, and folded once they can be had."""
    claims = []

    async def claim_later(real: Callable[..., Any], *given: Any, **options: Any) -> Any:
        claims.append(given)
        return {} if len(claims) < 3 else await real(*given, **options)

    async with serving(folder, store=scripted_store(folder, claim=claim_later), until_end=True, lease=1) as service:
        assert await service.failure() is None
    assert len(claims) == 3
    assert (await stored(folder)).records == 100


async def test_what_hangs_is_left_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopping while a commit hangs ends within the deadline and the bound of closing, and says so."""
    monkeypatch.setattr(service_module, "CLOSING_SECONDS", 0.1)
    reached = asyncio.Event()

    async def hang(_real: Callable[..., Any], *_given: Any, **_options: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    store = scripted_store(folder, apply=hang, leave=hang)
    async with serving(folder, store=store, drain=0.2) as service:
        await asyncio.wait_for(reached.wait(), 10)
        service.stop.set()
        begun = asyncio.get_running_loop().time()
        assert isinstance(await service.failure(), DrainExceeded)
        assert asyncio.get_running_loop().time() - begun < 2
    assert service.events("left_behind")
    async with serving(folder, until_end=True) as service:
        assert await service.failure() is None
    assert await stored(folder) == await fold_quietly(folder)


async def test_closing_does_not_hide_the_reason(folder: Path) -> None:
    """Where giving back the partitions fails too, the first error is the one that is raised."""
    first = StoreRefused("of another log")
    store = scripted_store(folder, apply=failing(first), leave=failing(StoreUnreachable("gone")))
    async with serving(folder, store=store) as service:
        assert await service.failure() is first
    assert service.events("closed_with_error")


async def test_a_cancelled_service_closes(folder: Path) -> None:
    """A service that is cancelled gives everything back: the next one starts at once."""
    async with serving(folder) as service:
        await service.folded(100)
        service.task.cancel()
        await asyncio.wait((service.task,))
        assert service.task.cancelled()
    async with serving(folder, until_end=True) as service:
        assert await service.failure() is None


async def test_one_service_a_store(folder: Path) -> None:
    """A second service on the same store is refused, also within one process."""
    async with serving(folder) as first:
        await first.folded(100)
        async with serving(folder) as second:
            assert isinstance(await second.failure(), StoreBusy)
        await first.end()


async def test_a_stop_before_the_start(folder: Path) -> None:
    """A service that is told to stop before it began folds nothing and closes what it opened."""
    source = SqliteSource(folder / "runfold.log.db")
    async with serving(folder, source=source) as service:
        service.stop.set()
        assert await service.failure() is None
    assert not service.events("batch_committed")
