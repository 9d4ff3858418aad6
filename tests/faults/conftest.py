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
from kafka_cluster import Cluster
from kafka_fixtures import create_topic
from postgres_fixtures import away_from_loops
from production import production
from under_fire import Filled, Fleet, Scale, Worker, append, looked_at

from runfold.log.kafka_options import Address, address_of
from runfold.store.postgres_url import parse_url
from runfold.wiring import STORES

PARTITIONS = 8
TENTH, FULL = Scale(20_000, 2), Scale(200_000, 20)
FULLY = [pytest.mark.faults, pytest.mark.timeout(1_800)]

FilledTopics = Callable[[int], Filled]

SHARED = [name for name in sorted(STORES) if name != "memory"]
"""The stores that outlive a process."""


@pytest.fixture(params=[pytest.param(TENTH, id="tenth"), pytest.param(FULL, id="full", marks=FULLY)])
def scale(request: pytest.FixtureRequest) -> Scale:
    return request.param


@pytest.fixture
def random(request: pytest.FixtureRequest) -> Random:
    """Chance, by the seed of this run: ``-p randomly -p "randomly_seed=..."`` repeats it."""
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

        async def make(log: str, store: str, **settings: Any) -> Fleet:
            fleet = Fleet(log, store, folder=tmp_path, random=random, **settings)
            return await stack.enter_async_context(fleet)

        yield make


class Backends:
    """What PostgreSQL knows of the backends that write for workers."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def writing(self, worker: Worker) -> bool:
        """Whether the worker's own stands in a transaction that has written."""
        found = await self._connection.fetch(
            """select from position as p join pg_stat_activity as a on a.pid = p.backend
                where split_part(p.owner, ':', 2) = $1 and a.backend_xid is not null and a.state <> 'idle'""",
            str(worker.pid),
        )
        return bool(found)


@pytest.fixture
async def backends(postgres_url: str) -> AsyncIterator[Backends]:
    database = parse_url(postgres_url)
    connection = await asyncpg.connect(database.dsn, server_settings={"search_path": database.schema})
    yield Backends(connection)
    await connection.close()


@pytest.fixture(scope="session")
def filled_topics(kafka: str) -> Iterator[FilledTopics]:
    """Topics by their number of records, each filled, and folded in quiet, once."""
    yield from topics_of(kafka)


@pytest.fixture(scope="module")
def hurt_topics(own_cluster: Cluster) -> Iterator[FilledTopics]:
    """The same in a cluster that the tests of a module may hurt, with copies where it has several brokers."""
    yield from topics_of(own_cluster.bootstrap_servers, replicas=len(own_cluster.nodes))


def topics_of(servers: str, *, replicas: int = 1) -> Iterator[FilledTopics]:
    made: dict[int, Filled] = {}

    def filled(records: int) -> Filled:
        if records not in made:
            made[records] = fill(servers, f"fire-{uuid4().hex[:8]}-{records}", records=records, replicas=replicas)
        return made[records]

    yield filled
    if made:
        admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
        for done in admin.delete_topics([each.topic.topic for each in made.values()]).values():
            done.exception(30)


def fill(servers: str, name: str, *, records: int, replicas: int = 1) -> Filled:
    """A topic of eight partitions with as many records of production."""
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    create_topic(admin, name, partitions=PARTITIONS, replicas=replicas)
    topic: Address = address_of(f"kafka://{servers}/{name}")

    async def work() -> Filled:
        await append(topic, production(records, Random(records)))
        return await looked_at(topic)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runfold.service.serve._quieten_collector", lambda: None)
        filled: Filled = away_from_loops(work)
    return filled


@pytest.fixture
def filled(filled_topics: FilledTopics, scale: Scale) -> Filled:
    """A topic of the scale's size, that nobody may write to."""
    return filled_topics(scale.records)
