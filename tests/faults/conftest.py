"""What the fault tests share: filled topics, every store that processes can share, a seed, and a fleet.

Everything that takes ``scale`` runs twice: a tenth of it with all tests, the full counts under ``make faults``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from kafka_fixtures import create_topic
from postgres_fixtures import away_from_loops
from production import production
from under_fire import Filled, Fleet, Scale, append, looked_at

from runfold.log.kafka_options import Address, address_of
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


@pytest.fixture(scope="session")
def filled_topics(kafka: str) -> Iterator[Callable[[int], Filled]]:
    """Topics by their number of records, each filled, and folded in quiet, once."""
    made: dict[int, Filled] = {}

    def filled(records: int) -> Filled:
        if records not in made:
            made[records] = fill(kafka, f"fire-{records}-{id(made):x}", records=records)
        return made[records]

    yield filled
    if made:
        admin = AdminClient({"bootstrap.servers": kafka, "log_level": 0})
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
def filled(filled_topics: Callable[[int], Filled], scale: Scale) -> Filled:
    """A topic of the scale's size, that nobody may write to."""
    return filled_topics(scale.records)
