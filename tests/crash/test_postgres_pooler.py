"""The PostgreSQL store behind PgBouncer, which gives every transaction another backend: all works that a pooler can carry.

PgBouncer is looked for on the path (Debian and Ubuntu: apt-get install pgbouncer); where CI=true it is installed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from debian import PATH, program
from postgres_server import NOBODY
from store_batches import batch, bound, claim, dumped, refold

from runfold.store.port import Note, RunFilter, StalePosition
from runfold.store.postgres import PostgresStore

CONFIG = """
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = 3
server_idle_timeout = 1
server_round_robin = 1
logfile = {folder}/log
"""


@pytest.fixture
def pooled_url(postgres_url: str) -> Iterator[str]:
    """The URL of the test's own store by way of a pooler in transaction mode, with three backends taken in turn."""
    in_ci = os.environ.get("CI") == "true"  # elsewhere its package would start a service that nobody asked for
    binary = program("pgbouncer", "pgbouncer") if in_ci else shutil.which("pgbouncer", path=PATH)
    if binary is None:
        pytest.skip("no pgbouncer on the path: apt-get install pgbouncer")
    parts = urlsplit(postgres_url)
    folder = Path(tempfile.mkdtemp(prefix="runfold-pooler-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        listen = probe.getsockname()[1]
    config = CONFIG.format(host=parts.hostname, port=parts.port, listen=listen, folder=folder)
    (folder / "pgbouncer.ini").write_text(config)
    user = parts.username or "postgres"
    (folder / "users").write_text(f'"{user}" "{parts.password or ""}"\n')
    folder.chmod(0o777)
    as_nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    pooler = subprocess.Popen([binary, "-q", folder / "pgbouncer.ini"], stderr=subprocess.DEVNULL, **as_nobody)
    try:
        _wait_until_it_listens(listen, folder / "log")
        host = f"{user}@127.0.0.1:{listen}"
        yield parts._replace(netloc=host, query=f"{parts.query}&pooler=transaction").geturl()
    finally:
        pooler.send_signal(signal.SIGTERM)
        pooler.wait(10)
        shutil.rmtree(folder)


def _wait_until_it_listens(port: int, log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                pytest.fail(f"the pooler did not start: {log.read_text() if log.exists() else 'no log'}")
            time.sleep(0.02)
        else:
            return


@pytest.fixture
async def stores(pooled_url: str, postgres_url: str) -> AsyncIterator[tuple[PostgresStore, PostgresStore]]:
    """A store behind the pooler, and the same one past it."""
    pooled, direct = PostgresStore(pooled_url), PostgresStore(postgres_url)
    await bound(pooled)
    await bound(direct)
    yield pooled, direct
    await pooled.close()
    await direct.close()


async def test_the_whole_life_of_a_store_behind_a_pooler(stores: tuple[PostgresStore, PostgresStore]) -> None:
    """Claims, batches, refolds, notes, reads and views: backends change with every transaction, and nothing differs."""
    pooled, direct = stores
    leases, handles = await claim(pooled), dict[str, int]()
    for number in range(10):
        written = await pooled.apply(batch(number, old=handles), leases)
        handles = {run_id: handle for (_, run_id), handle in written.items()}
        assert await pooled.renew("me", leases, lease=60) == {0, 1}
        assert len(await pooled.load(0, list(handles))) == 30
    await pooled.write_through_door(refold(9))
    with pytest.raises(StalePosition):
        await pooled.apply(batch(10), leases)
    await pooled.add_note(Note(partition=0, offset=1, kind="discard", reason="r", noted_at=1))
    assert await pooled.notes() == await direct.notes()
    assert await pooled.list_runs(RunFilter(limit=99)) == await direct.list_runs(RunFilter(limit=99))
    assert await pooled.count_runs() == await direct.count_runs()
    assert await pooled.usage() == await direct.usage()
    assert await pooled.letters() == await direct.letters()
    assert await pooled.partitions() == await direct.partitions()
    assert await dumped(pooled) == await dumped(direct)


async def test_readers_beside_a_writer_behind_a_pooler(stores: tuple[PostgresStore, PostgresStore]) -> None:
    """More connections than the pooler has backends take turns, and none meets another's settings or statements."""
    pooled, _ = stores
    leases = await claim(pooled)

    async def read() -> None:
        for number in range(20):
            await pooled.find_run(f"run_{number}_0")
            await pooled.list_runs(RunFilter(limit=3))

    async def write() -> None:
        for number in range(20):
            await pooled.apply(batch(number), leases)

    await asyncio.gather(write(), *(read() for _ in range(6)))
    assert (await pooled.partitions())[0].position == 20


async def test_no_backend_is_anybodys_behind_a_pooler(stores: tuple[PostgresStore, PostgresStore]) -> None:
    """A lease taken through a pooler names no backend: the one that it was taken on may now work for somebody else."""
    pooled, direct = stores
    await claim(pooled)
    recorded = await direct._write().run(
        lambda session: session.connection.fetch("select backend, backend_since from position")
    )
    assert [tuple(row) for row in recorded] == [(None, None), (None, None)]
