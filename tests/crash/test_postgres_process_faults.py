"""The PostgreSQL store under faults of processes: workers frozen and killed, a server restarted or out of disk."""

# ruff: noqa: ASYNC110, ASYNC220 - what is waited for is the state of another process, and tests may wait for their own

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from postgres_server import NOBODY, Server
from postgres_stores import Open
from small_disk import small_disk
from store_batches import batch, claim, dumped

from runfold.store.port import Store, StoreUnreachable
from runfold.store.postgres import PostgresStore

SUPPORT = Path(__file__).parents[1] / "support"

FROZEN = """
import asyncio, os, signal, sys
sys.path.insert(0, sys.argv[1])
from store_batches import batch, bound, claim
from runfold.store import postgres_writes
from runfold.store.port import StoreUnreachable, StalePosition
from runfold.store.postgres import PostgresStore

async def stopping(chunks):
    yield chunks[0][:1000]
    await asyncio.sleep(0.05)
    print("stopped", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    yield chunks[0][1000:]

async def main():
    store = await bound(PostgresStore(sys.argv[2]))
    leases = await claim(store, "frozen", lease=0.1)
    postgres_writes._sent = stopping
    try:
        await store.apply(batch(0), leases)
        print("written", flush=True)
    except (StoreUnreachable, StalePosition) as error:
        print(type(error).__name__, flush=True)

asyncio.run(main())
"""


async def test_a_worker_frozen_in_its_copy_is_not_waited_for(
    opened: Open, direct: PostgresStore, postgres_url: str
) -> None:
    """Its successor ends its transaction after the bound and folds on; woken, the frozen one writes nothing."""
    successor = await opened(postgres_url, takeover=0.5)
    command = [sys.executable, "-c", FROZEN, str(SUPPORT), postgres_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        try:
            assert worker.stdout.readline() == "stopped\n"
            async with asyncio.timeout(5):
                while set(leases := await claim(successor, "successor")) != {0, 1}:
                    await asyncio.sleep(0.02)  # until the frozen one's lease has run out, and its time is over
            await successor.apply(batch(0, new=5), leases)
        finally:
            worker.send_signal(signal.SIGCONT)
        assert worker.stdout.readline() == "StoreUnreachable\n"
    assert (await direct.count_runs())["in_progress"] == 5


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["crash", "restart"])
async def test_a_server_that_is_restarted_under_load_loses_no_batch(
    opened: Open, postgres_own_server: Server, postgres_url: str, direct: PostgresStore, how: signal.Signals
) -> None:
    """Batches go on while the server is killed or restarted; read again from the store's position, the end is the same."""
    server = postgres_own_server
    store = await opened(server.url)
    restarts = 0

    async def restart() -> None:
        nonlocal restarts
        for _ in range(3):
            await asyncio.sleep(0.15)  # a random instant of the load is the point
            await asyncio.to_thread(server.stop, how)
            await asyncio.to_thread(server.start)
            restarts += 1

    restarting = asyncio.create_task(restart())
    async with asyncio.timeout(60):
        await _write_until(store, 60, keep_on=lambda: not restarting.done())
    await restarting
    position = (await store.partitions())[0].position
    await _write_until(direct, position)
    assert restarts == 3
    assert await dumped(store) == await dumped(direct)


async def _write_until(store: Store, least: int, *, keep_on: Callable[[], bool] = lambda: False) -> None:
    """Fold batches one after the other as a service does: after any failure from where the store stands."""
    position, leases = -1, dict[int, Any]()
    while position < least or keep_on():
        try:
            if position < 0:
                leases = await claim(store)
                position = leases[0].position
            await store.apply(batch(position), leases)
            position += 1
        except StoreUnreachable:
            position = -1


async def test_a_full_disk_is_named_and_survived(opened: Open, postgres_own_server: Server) -> None:
    """On a full disk the batch is refused whole, the message says so, and with room it is written."""
    store = await opened(postgres_own_server.url)
    connection = await asyncpg.connect(postgres_own_server.url)
    leases = await claim(store)
    before = await dumped(store)
    large = batch(0, new=4000, body=1500)  # shorter than what would be compressed
    with small_disk(4, owner=NOBODY) as disk:
        await connection.execute(f"create tablespace small location '{disk.folder}'")
        await connection.execute("alter table runfold.run set tablespace small")
        with pytest.raises(StoreUnreachable, match=r"RUNFOLD_STORE.*full"):
            await store.apply(large, leases)
        assert await dumped(store) == before
        await connection.execute("alter table runfold.run set tablespace pg_default")
    await store.apply(large, await claim(store))
    await connection.close()


WRITE = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from store_batches import batch, bound, claim
from runfold.store.postgres import PostgresStore

async def main():
    store = await bound(PostgresStore(sys.argv[2]))
    leases = await claim(store)
    print("ready", flush=True)
    handles = {}
    for number in range(leases[0].position, 1_000_000):
        old = {run_id: handle for (_, run_id), handle in handles.items()}
        handles = await store.apply(batch(number, new=200, old=old), leases)

asyncio.run(main())
"""


async def test_killed_at_any_instant_no_batch_is_half_written(direct: PostgresStore, postgres_url: str) -> None:
    """A writer killed with SIGKILL while it writes leaves whole batches: rows, letters, usage and position agree."""
    for attempt in range(6):
        command = [sys.executable, "-c", WRITE, str(SUPPORT), postgres_url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            await asyncio.sleep(0.05 + 0.017 * attempt)  # the instant is the point of the test
            writer.kill()
        position = (await claim(direct))[0].position
        view = await direct.snapshot()
        assert len(list(view.scan_runs())) == 200 * position
        assert len(list(view.letters(0))) == len(list(view.journal(0))) == position
        await view.close()
        assert sum(row.sums[0] for row in await direct.usage()) == 2 * position
        await direct.release("me", await claim(direct))
    assert position > 0
