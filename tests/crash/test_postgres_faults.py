"""The PostgreSQL store under faults: whatever breaks, and wherever, the store is as before or as after, and goes on."""

# ruff: noqa: ASYNC110, ASYNC220 - what is waited for is the state of another process, and tests may wait for their own

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from postgres_proxy import Proxy
from postgres_server import NOBODY, Server
from store_batches import batch, bound, claim, dumped, refold

from runfold.store import postgres_connection, postgres_writes
from runfold.store.port import StalePosition, Store, StoreUnreachable
from runfold.store.postgres import PostgresStore
from runfold.store.postgres_url import parse_url

SUPPORT = Path(__file__).parents[1] / "support"
Step = Callable[[Store], Awaitable[Any]]


Open = Callable[..., Awaitable[PostgresStore]]


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    """Opens stores, bound to their log and fold, and closes them when the test is over."""
    async with AsyncExitStack() as stack:

        async def open_store(url: str, **options: Any) -> PostgresStore:
            store = PostgresStore(url, **options)
            stack.push_async_callback(store.close)
            await bound(store)
            return store

        yield open_store


@pytest.fixture
async def direct(opened: Open, postgres_url: str) -> PostgresStore:
    """The store as it is, past any broken network."""
    return await opened(postgres_url)


@pytest.fixture
async def proxy(postgres_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(postgres_url) as proxy:
        yield proxy


@pytest.fixture
async def admin(postgres_url: str) -> AsyncIterator[Any]:
    """A connection of an administrator, in the store's schema."""
    database = parse_url(postgres_url)
    connection = await asyncpg.connect(database.dsn)
    await connection.execute(f"set search_path = {database.schema}")
    yield connection
    await connection.close()


async def prepare_batch(store: Store) -> Step:
    """A second batch, so that it updates rows; warm, so that nothing is left to be prepared."""
    leases = await claim(store)
    handles = await store.apply(batch(0), leases)
    old = {run_id: handle for (_, run_id), handle in handles.items()}
    handles = await store.apply(batch(1, old=old), leases)
    third = batch(2, old=old | {run_id: handle for (_, run_id), handle in handles.items()})

    async def step(store: Store) -> None:
        await store.apply(third, await claim(store))

    return step


async def prepare_door(store: Store) -> Step:
    await store.apply(batch(0), await claim(store))
    return lambda store: store.write_through_door(refold())


@pytest.mark.parametrize("afterwards", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("prepare", [prepare_batch, prepare_door])
async def test_a_connection_cut_at_any_request_leaves_before_or_after(
    opened: Open, postgres_database: str, prepare: Callable[[Store], Awaitable[Step]], afterwards: bool
) -> None:
    """For every n: cut at request n, COMMIT among them, all or nothing is written, and the store itself goes on."""
    outcomes, point, whole = list[bool](), 0, list[bytes]()
    while True:
        point += 1
        url = f"{postgres_database}?schema=cut_{prepare.__name__}_{afterwards}_{point}".lower()
        async with Proxy(url) as proxy:
            store, direct = await opened(proxy.url), await opened(url)
            step = await prepare(store)
            before = await dumped(direct)
            proxy.requests, proxy.cut_at, proxy.afterwards = 0, point, afterwards
            try:
                await step(store)
            except StoreUnreachable:
                proxy.cut_at = 0
                await claim(store)  # waits for what the server may still be doing, and tells what became of it
                left = await dumped(direct)
                outcomes.append(left != before)
                if left == before:
                    await step(store)
                    left = await dumped(direct)
                whole = whole or left
                assert left == whole
            else:
                assert await dumped(direct) == whole
                break
            finally:
                proxy.cut_at = 0
                await store.close()
                await direct.close()
    assert len(outcomes) > 8
    assert outcomes == sorted(outcomes)
    assert outcomes[-1] == afterwards  # the last request is the COMMIT


async def test_a_lost_connection_is_made_anew(opened: Open, proxy: Proxy, direct: PostgresStore) -> None:
    """Whoever reads or loads after all connections were cut between two calls does not even notice."""
    store = await opened(proxy.url)
    await direct.apply(batch(0), await claim(direct))
    await store.load(0, ["run_0_1"])
    await store.find_run("run_0_1")
    proxy.cut()
    while store._load()._session.connection.is_closed() is False:
        await asyncio.sleep(0)
    assert len(await store.load(0, ["run_0_1"])) == 1
    assert len(await store.find_run("run_0_1")) == 1


async def test_a_server_that_is_away_is_not_stormed(
    opened: Open, proxy: Proxy, direct: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each failed attempt to connect makes the next one wait longer; once the server is back, all is well."""
    monkeypatch.setattr(postgres_connection, "FIRST_PAUSE", 0.02)
    store = await opened(proxy.url)
    proxy.refusing, proxy.attempts = True, 0
    proxy.cut()
    begun, failures = asyncio.get_running_loop().time(), 0
    while asyncio.get_running_loop().time() < begun + 1:
        with pytest.raises(StoreUnreachable, match="RUNFOLD_STORE"):
            await store.load(0, ["run_0_1"])
        failures += 1
    assert 3 <= proxy.attempts <= 8
    proxy.refusing = False
    await store.load(0, ["run_0_1"])


async def test_a_network_that_swallows_is_noticed(opened: Open, proxy: Proxy, direct: PostgresStore) -> None:
    """Where no answer comes at all, work ends with StoreUnreachable after its bound, and the next one succeeds."""
    store = await opened(proxy.url)
    leases = await claim(store)
    store._write()._patience = 0.3
    proxy.swallowing = True
    with pytest.raises(StoreUnreachable, match="in time"):
        await store.apply(batch(0), leases)
    proxy.swallowing = False
    await store.apply(batch(0), await claim(store))


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
                while not (leases := await claim(successor, "successor")):
                    await asyncio.sleep(0.02)  # until the frozen one's lease has run out
            assert set(leases) == {0, 1}
            await successor.apply(batch(0, new=5), leases)
        finally:
            worker.send_signal(signal.SIGCONT)
        assert worker.stdout.readline() == "StoreUnreachable\n"
    assert (await direct.count_runs())["in_progress"] == 5


async def test_an_owner_ends_its_own_lost_connection(
    opened: Open, proxy: Proxy, direct: PostgresStore, postgres_url: str
) -> None:
    """Where the server still waits, locks held, for a client that is gone, the same owner has its partitions back at once."""
    store = await opened(proxy.url)
    leases = await claim(store)
    await store.apply(batch(0), leases)
    store._write()._patience = 0.3
    proxy.deserting, proxy.cut_at = True, proxy.requests + 3  # in the middle of the transaction
    proxy.cut = lambda: setattr(proxy, "swallowing", True)  # type: ignore[method-assign]
    with pytest.raises(StoreUnreachable):
        await store.apply(batch(1), leases)
    proxy.cut_at, proxy.swallowing = 0, False
    store._write()._patience = 10
    begun = asyncio.get_running_loop().time()
    assert set(await claim(store)) == {0, 1}
    assert asyncio.get_running_loop().time() - begun < 5  # far less than the server's own patience
    del proxy.cut


async def test_a_claim_leaves_locked_rows_to_the_living(direct: PostgresStore, admin: Any, postgres_url: str) -> None:
    """A foreign transaction that is younger than the bound is not ended; the other partitions are taken."""
    await claim(direct, lease=-1)
    async with admin.transaction():
        await admin.execute("select * from position where partition = 0 for update")
        assert set(await claim(direct, "you")) == {1}
        assert await admin.fetchval("select 1") == 1
    assert set(await claim(direct, "you")) == {0, 1}


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


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A folder with room for 4 MB, which PostgreSQL may use."""
    folder = Path(tempfile.mkdtemp(prefix="runfold-disk-"))
    given = ["-t", "tmpfs", "-o", f"size=4m,mode=700,uid={NOBODY},gid={NOBODY}", "tmpfs", str(folder)]
    mounted = subprocess.run(["mount", *given], check=False, capture_output=True)
    if mounted.returncode:
        folder.rmdir()
        pytest.skip(f"no small disk can be made here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)
    folder.rmdir()


async def test_a_full_disk_is_named_and_survived(opened: Open, postgres_own_server: Server, small_disk: Path) -> None:
    """On a full disk the batch is refused whole, the message says so, and with room it is written."""
    store = await opened(postgres_own_server.url)
    connection = await asyncpg.connect(postgres_own_server.url)
    await connection.execute(f"create tablespace small location '{small_disk}'")
    await connection.execute("alter table runfold.run set tablespace small")
    leases = await claim(store)
    before = await dumped(store)
    large = batch(0, new=4000, body=1500)  # shorter than what would be compressed
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


async def test_an_abandoned_batch_is_finished_before_closing(
    opened: Open, direct: PostgresStore, postgres_url: str
) -> None:
    """A caller who goes leaves its batch to its end; close waits for it."""
    store = await opened(postgres_url)
    applying = asyncio.ensure_future(store.apply(batch(0), await claim(store)))
    await asyncio.sleep(0)
    applying.cancel()
    await store.close()
    assert (await direct.partitions())[0].position == 1


async def test_closing_has_an_end_when_the_server_has_none(opened: Open, proxy: Proxy, direct: PostgresStore) -> None:
    """Cancelled while the network swallows, close ends at once and leaves no connection open."""
    store = await opened(proxy.url)
    leases = await claim(store)
    proxy.swallowing = True
    applying = asyncio.ensure_future(store.apply(batch(0), leases))
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await store.close()
    assert type((await asyncio.gather(applying, return_exceptions=True))[0]) in (
        StoreUnreachable,
        asyncio.CancelledError,
    )
