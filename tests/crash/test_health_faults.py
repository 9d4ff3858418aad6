"""``runfold serve`` in a process of its own, probed from outside while its store, its database or its port fail it."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest
from postgres_server import Server as PostgresServer
from probing import LISTEN, Probe, Reply, code
from serving import Server, fill, messages, server, settings_of, traffic

from runfold import wiring

STUCK = {**LISTEN, "stuck": 2, "patience": 600, "batch_linger": 0}


async def probe_of(service: Server) -> Probe:
    return Probe((await service.said("health_listening"))["address"])


def stuck_with(partitions: set[int]) -> Callable[[Reply], bool]:
    """The answer is no, because these partitions do not move, each since some time."""

    def is_so(reply: Reply) -> bool:
        reasons = [reason for reason in reply.json["reasons"] if "does not move" in reason["told"]]
        return reply.code == 503 and {reason["partition"] for reason in reasons if reason["since"]} == partitions

    return is_so


async def tally_of(folder: Path, **environment: object) -> Counter[str]:
    store = wiring.open_store(settings_of(folder, **environment))
    await store.open(write=False)
    try:
        tally: Counter[str] = Counter()
        for known in await store.partitions():
            tally.update(known.tally)
    finally:
        await store.close()
    return tally


async def test_figures_of_a_process_are_those_of_its_store(tmp_path: Path) -> None:
    """What a service counts comes to the store's tallies, to the last event, duplicates and letters included."""
    written = messages(traffic(3_000))
    await fill(tmp_path, [*written, *written[:100], *written[5:6]])
    async with server(tmp_path, **LISTEN, batch_records=400) as service:
        await service.start()
        probe = await probe_of(service)
        await probe.until("/readyz", code(200))
        found = await probe.metrics()
        assert await service.stop() == 0
    tally = await tally_of(tmp_path)
    assert sum(tally.values()) == 3_101
    assert {outcome: count for (outcome,), count in found.all("events_total").items() if count} == tally


async def test_a_locked_file_is_stuck_and_recovers(tmp_path: Path) -> None:
    """While somebody else holds the store's file the service is unhealthy, partition by partition; then it is well."""
    await fill(tmp_path, messages(traffic(300)))
    async with server(tmp_path, **STUCK) as service:
        await service.start()
        probe = await probe_of(service)
        await probe.until("/readyz", code(200))
        with closing(sqlite3.connect(tmp_path / "runfold.db", isolation_level=None)) as other:
            other.execute("begin immediate")
            await fill(tmp_path, messages(traffic(300, seed=9)))
            await probe.until("/healthz", stuck_with({0, 1, 2}), within=30)
            assert (await probe.ask("/readyz")).code == 503
            other.execute("rollback")
        await probe.until("/readyz", code(200), within=20)
        assert (await probe.ask("/healthz")).code == 200
        assert await service.stop() == 0
    assert {line["partition"] for line in service.events("stuck")} == {0, 1, 2}


async def test_a_frozen_database_is_stuck_and_recovers(tmp_path: Path, postgres_own_server: PostgresServer) -> None:
    """PostgreSQL that is frozen answers nothing and fails nothing: it is found all the same, and nothing is lost."""
    await fill(tmp_path, messages(traffic(300)))
    environment = {"store": postgres_own_server.url}
    async with server(tmp_path, **STUCK, **environment) as service:
        await service.start()
        probe = await probe_of(service)
        await probe.until("/readyz", code(200))
        backends = await backends_of(postgres_own_server.url)
        for pid in backends:
            os.kill(pid, signal.SIGSTOP)
        try:
            await fill(tmp_path, messages(traffic(300, seed=9)))
            await probe.until("/healthz", stuck_with({0, 1, 2}), within=30)
            found = await probe.metrics()
        finally:
            for pid in backends:
                os.kill(pid, signal.SIGCONT)
        await probe.until("/readyz", code(200), within=30)
        assert await service.stop() == 0
    assert sum(found.all("lag_records").values()) == 300
    assert min(found.all("lag_seconds").values()) > 1
    assert sum((await tally_of(tmp_path, **environment)).values()) == 600


async def backends_of(url: str) -> list[int]:
    """The processes that serve the connections of others."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
        )
    finally:
        await connection.close()
    return [row["pid"] for row in rows]


async def test_takeovers_are_told_from_hand_overs(tmp_path: Path, postgres_url: str) -> None:
    """Partitions of a worker that was killed are counted as taken over, those that one has let go of as free."""
    await fill(tmp_path, messages(traffic(100)))
    environment = {**LISTEN, "store": postgres_url, "lease": 1}
    taken = []
    for how in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        async with server(tmp_path, **environment) as service:
            await service.start()
            probe = await probe_of(service)
            await probe.until("/readyz", code(200))
            taken.append((await probe.metrics()).all("partitions_taken_total"))
            await service.stop(how)
    free, over = {("free",): 3, ("taken_over",): 0}, {("free",): 0, ("taken_over",): 3}
    assert taken == [free, free, over]


SECRET = "sekret-0815"


async def test_no_password_is_told(tmp_path: Path, postgres_url: str) -> None:
    """Passwords of store and log stand in no line of the log, no metric and no answer, and nor does the store's URL."""
    await fill(tmp_path, messages(traffic(100)))
    scheme, rest = postgres_url.split("://")
    store = f"{scheme}://{rest.replace('@', f':{SECRET}@', 1)}"
    environment = {"store": store, "kafka_sasl_password": SECRET, "logging_level": "debug"}
    async with server(tmp_path, **LISTEN, **environment) as service:
        await service.start()
        probe = await probe_of(service)
        await probe.until("/readyz", code(200))
        answers = [(await probe.ask(path)).body.decode() for path in ("/healthz", "/readyz", "/metrics")]
        connection = await asyncpg.connect(postgres_url.partition("?")[0])
        await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where pid <> pg_backend_pid() and datname = current_database()"
        )
        await connection.close()
        await fill(tmp_path, messages(traffic(100, seed=9)))
        await service.said("batch_committed", records=100)
        assert await service.stop() == 0
    told = repr([answers, service.lines])
    assert SECRET not in told
    assert rest not in told


async def test_no_password_is_told_of_a_store_that_is_away(tmp_path: Path) -> None:
    """Nor where the store cannot be reached, in the logs or in what people are told."""
    await fill(tmp_path, messages(traffic(10)))
    store = f"postgresql://me:{SECRET}@127.0.0.1:1/x"
    async with server(tmp_path, **LISTEN, store=store, logging_level="debug") as service:
        await service.start()
        assert await service.ended() == 3
    assert "RUNFOLD_STORE" in service.text
    assert SECRET not in repr(service.lines)


@pytest.mark.parametrize("how", ["--health", "RUNFOLD_HEALTH"])
async def test_a_port_in_use_ends_with_2(tmp_path: Path, how: str) -> None:
    """A port that is taken is a wrong setting, named with where it came from; nothing is folded."""
    await fill(tmp_path, messages(traffic(10)))
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        place = f"127.0.0.1:{other.getsockname()[1]}"
        options, environment = (("--health", place), {}) if how.startswith("--") else ((), {"health": place})
        async with server(tmp_path, **environment) as service:
            await service.start(*options)
            assert await service.ended() == 2
    assert "RUNFOLD_HEALTH" in service.text
    assert place in service.text
    assert not service.events("batch_committed")


async def test_a_job_that_ends_does_not_listen(tmp_path: Path) -> None:
    """With --until-end nothing listens, unless it was asked for: jobs may run beside a service."""
    await fill(tmp_path, messages(traffic(10)))
    async with server(tmp_path, health="") as service:
        await service.start("--until-end")
        assert await service.ended() == 0
    assert not service.events("health_listening")
    async with server(tmp_path, **LISTEN) as service:
        await service.start("--until-end")
        assert await service.ended() == 0
    assert service.events("health_listening")
