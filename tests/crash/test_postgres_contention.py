"""The PostgreSQL store beside other writers: locks, races and deadlocks cost time, and never a batch."""

# ruff: noqa: ASYNC110 - what is waited for is the state of another process

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest
from postgres_stores import Open
from store_batches import batch, claim

from runfold.store import postgres_connection, postgres_writes
from runfold.store.port import StalePosition, StoreUnreachable
from runfold.store.postgres import PostgresStore


async def test_rows_that_others_lock_are_waited_for_with_a_bound(
    opened: Open, direct: PostgresStore, admin: Any, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch behind a foreign lock ends with StoreUnreachable that says so, and is written once the lock is gone."""
    monkeypatch.setitem(postgres_connection.WRITER, "lock_timeout", "200ms")
    store = await opened(postgres_url)
    leases = await claim(store)
    async with admin.transaction():
        await admin.execute("select * from position for update")
        with pytest.raises(StoreUnreachable, match="locked"):
            await store.apply(batch(0), leases)
    await store.apply(batch(0), leases)


async def test_of_two_writers_one_wins(opened: Open, direct: PostgresStore, postgres_url: str) -> None:
    """Two writers with the same position and epoch race: each time one batch is written, the other is stale, whole."""
    rival = await opened(postgres_url)
    for number in range(30):
        leases = await claim(direct)
        batches = batch(number), batch(number)
        raced = await asyncio.gather(
            *(store.apply(each, leases) for store, each in zip((direct, rival), batches, strict=True)),
            return_exceptions=True,
        )
        assert sorted(type(answer) for answer in raced if isinstance(answer, Exception)) == [StalePosition]
    assert (await direct.count_runs())["in_progress"] == 30 * 30


async def test_writers_of_different_partitions_share_usage(
    opened: Open, direct: PostgresStore, postgres_url: str
) -> None:
    """Two writers, each with its partition, meet in the same usage rows: nobody fails, every number is added."""
    rival = await opened(postgres_url)
    mine, yours = await direct.claim("me", {0: 0}, lease=60), await rival.claim("you", {1: 0}, lease=60)
    for number in range(20):
        await asyncio.gather(direct.apply(batch(number), mine), rival.apply(batch(number, partition=1), yours))
    assert sum(row.sums[0] for row in await direct.usage()) == 2 * 20 * 2


async def test_a_deadlock_is_tried_again_whole(
    opened: Open, direct: PostgresStore, admin: Any, postgres_url: str
) -> None:
    """A batch that the server picks as a deadlock's victim is written by the next try, once."""
    await admin.execute("set deadlock_timeout = '1min'")
    leases = await claim(direct)
    await direct.apply(batch(0), leases)
    hurry = postgres_connection.WRITER | {"deadlock_timeout": "50ms"}
    store = await opened(postgres_url)
    store._write()._settings = hurry
    store._write()._session.connection.terminate()
    async with admin.transaction():
        await admin.execute("update usage set runs = runs where minute = 0")
        applying = asyncio.create_task(store.apply(batch(1), leases))
        while not applying.done() and not await admin.fetchval(
            "select exists (select from pg_locks where not granted)"
        ):
            await asyncio.sleep(0.01)
        # Only when the batch has let go of its position can this be done: as a deadlock's victim.
        await admin.execute("update position set epoch = epoch where partition = 0")
    await applying
    assert (await direct.partitions())[0].position == 2
    assert (await direct.usage(end=1))[0].sums[0] == 1


async def test_a_serialization_error_is_tried_again_whole(
    direct: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the server undoes for the sake of others is done again, until a bound, and then said."""
    leases = await claim(direct)
    move, failures = postgres_writes._move, iter([asyncpg.SerializationError("injected")] * 2)

    async def failing(*given: Any) -> None:
        await move(*given)
        for failure in failures:
            raise failure

    monkeypatch.setattr(postgres_writes, "_move", failing)
    await direct.apply(batch(0), leases)
    assert (await direct.partitions())[0].tally == {"applied": 30}
    failures = iter([asyncpg.SerializationError("injected")] * 5)
    with pytest.raises(StoreUnreachable, match="several times"):
        await direct.apply(batch(1), leases)
    await direct.apply(batch(1), leases)


async def test_a_claim_leaves_locked_rows_to_the_living(direct: PostgresStore, admin: Any, postgres_url: str) -> None:
    """A foreign transaction that is younger than the bound is not ended; the other partitions are taken."""
    await claim(direct, lease=-1)
    async with admin.transaction():
        await admin.execute("select * from position where partition = 0 for update")
        assert set(await claim(direct, "you")) == {1}
        assert await admin.fetchval("select 1") == 1
    assert set(await claim(direct, "you")) == {0, 1}
