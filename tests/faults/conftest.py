"""What the fault tests share: filled topics, every store that processes can share, a seed, and a fleet.

Everything that takes ``scale`` runs twice: a tenth of it with all tests, the full counts under ``make faults``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from confluent_kafka.admin import AdminClient
from fire_topics import Filled, Scale, Work, looked_at, sink_of
from fire_workers import Hand
from kafka_cluster import Cluster
from kafka_fixtures import MakeTopic, create_topic
from postgres_fixtures import away_from_loops
from production import production
from under_fire import Fleet

from runfold.log.kafka_options import Address, address_of
from runfold.store.postgres_url import parse_url
from runfold.wiring import STORES

PARTITIONS = 8
TENTH, FULL = Scale(20_000, 2), Scale(200_000, 20)
FULLY = [pytest.mark.faults, pytest.mark.timeout(1_800)]

SHARED = [name for name in sorted(STORES) if name != "memory"]
"""The stores that outlive a process."""


@pytest.fixture(params=[pytest.param(TENTH, id="tenth"), pytest.param(FULL, id="full", marks=FULLY)])
def scale(request: pytest.FixtureRequest) -> Scale:
    return request.param


@pytest.fixture
def random(request: pytest.FixtureRequest) -> Random:
    """Chance, by the seed of this run, which ``--randomly-seed`` repeats."""
    seed = f"{request.config.getoption('randomly_seed', 0)} {request.node.name}"
    print(f"seed: {seed}")
    return Random(seed)


@pytest.fixture(params=SHARED)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store' / 'runfold.db'}"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
async def light(tmp_path: Path, random: Random) -> AsyncIterator[Callable[..., Awaitable[Fleet]]]:
    """Makes fleets: ``await light(log, store, **settings)``."""
    async with AsyncExitStack() as stack:

        async def make(log: str, store: str, *, eye: str = "", **settings: Any) -> Fleet:
            fleet = Fleet(log, store, folder=tmp_path, random=random, eye=eye, **settings)
            return await stack.enter_async_context(fleet)

        yield make


class Backends:
    """What PostgreSQL knows of the backends that write for workers."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def writing(self, hand: Hand) -> bool:
        """Whether the process's own stands in a transaction that writes runs: a batch's, and not a lease's."""
        found = await self._connection.fetch(
            """select from position as p join pg_locks as held on held.pid = p.backend
                where split_part(p.owner, ':', 2) = $1 and held.relation = 'run'::regclass
                    and held.mode = 'RowExclusiveLock'""",
            str(hand.pid),
        )
        return bool(found)


@pytest.fixture
async def backends(postgres_url: str) -> AsyncIterator[Backends]:
    database = parse_url(postgres_url)
    connection = await asyncpg.connect(database.dsn, server_settings={"search_path": database.schema})
    yield Backends(connection)
    await connection.close()


@pytest.fixture(scope="session")
def filled_topics(kafka: str) -> Iterator[Callable[[int], Filled]]:
    """Topics by their number of records, each filled, and folded in quiet, once."""
    made: dict[int, Filled] = {}

    def filled(records: int) -> Filled:
        if records not in made:
            made[records] = fill(kafka, records=records)
        return made[records]

    yield filled
    if made:
        admin = AdminClient({"bootstrap.servers": kafka, "log_level": 0})
        for done in admin.delete_topics([each.topic.topic for each in made.values()]).values():
            done.exception(30)


def fill(servers: str, *, records: int) -> Filled:
    """A topic with as many records of production."""
    topic = new_topic(servers)

    async def work() -> Filled:
        async with sink_of(topic) as append:
            await append(production(records, Random(records)))
        return await looked_at(topic)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runfold.service.serve.quieten_collector", lambda: None)
        filled: Filled = away_from_loops(work)
    return filled


def new_topic(servers: str, *, replicas: int = 1) -> Address:
    """An empty topic of eight partitions."""
    name = f"fire-{uuid4().hex[:12]}"
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    create_topic(admin, name, partitions=PARTITIONS, replicas=replicas)
    return address_of(f"kafka://{servers}/{name}")


@pytest.fixture
def own_clusters_topic(own_cluster: Cluster) -> Address:
    """An empty topic in the cluster that the tests of a module may hurt, with a copy at each broker."""
    return new_topic(own_cluster.bootstrap_servers, replicas=len(own_cluster.nodes))


@pytest.fixture
def filled(filled_topics: Callable[[int], Filled], scale: Scale) -> Filled:
    """A topic of the scale's size, that nobody may write to."""
    return filled_topics(scale.records)


@pytest.fixture
async def work(
    make_topic: MakeTopic,
    scale: Scale,
    random: Random,
    collector: None,
) -> AsyncIterator[Work]:
    """A topic that is filled to the scale's size while it is folded."""
    work = Work(make_topic(PARTITIONS), random, scale)
    yield work
    await work.close()
