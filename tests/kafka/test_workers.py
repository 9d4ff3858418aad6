"""Workers on one store: they share its partitions, and what one of them does or suffers the others take care of."""

from __future__ import annotations

import asyncio
import signal

import pytest
from worlds import PARTITIONS, World, written

pytestmark = pytest.mark.usefixtures("collector")

LEASE = 2.0
SMALL = {"batch_records": 200, "batch_linger": 0, "lease": LEASE}


@pytest.fixture
async def world(make_topic, postgres_url, tmp_path):
    """A topic of eight partitions in Kafka, and a store in PostgreSQL, which two servers may share."""
    made = World(tmp_path, topic=make_topic(PARTITIONS), store=postgres_url, **SMALL)
    await made.make()
    yield made
    await made.close()


async def end(world: World) -> None:
    """Fold the rest, and see that the store is that of a quiet fold."""
    last = await world.serve("--until-end")
    assert (await last.ended(), last.text) == (0, "")
    assert await world.held() == await world.quiet()


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_workers_share_the_partitions(world):
    """Two have four each; a third that joins gets its share, one partition after the other, and nobody loses a lease."""
    await world.write(written(5_000))
    first = await world.serve()
    await world.shared(first)
    second = await world.serve()
    await world.shared(first, second)
    third = await world.serve()
    await world.shared(first, second, third)
    await world.folded(5_000)
    for each in (first, second, third):
        assert await each.stop() == 0
        assert not each.events("leases_lost")
        assert not each.events("batch_dropped")
    handed = [line["partitions"] for each in (first, second) for line in each.events("partitions_handed_over")]
    assert {len(partitions) for partitions in handed} == {1}
    await end(world)


async def test_joining_stops_nobody(world):
    """While partitions change hands under load, those that stay are folded on without being taken again."""
    publishing = asyncio.create_task(world.write(written(30_000)))
    first = await world.serve()
    await first.said("batch_committed")
    second = await world.serve()
    await world.shared(first, second)
    await publishing
    await world.folded(30_000)
    assert await first.stop() == await second.stop() == 0
    assert len(first.events("partitions_taken")) == 1
    await end(world)


async def test_a_killed_worker_is_taken_over_within_its_lease(world):
    """After SIGKILL the other has all partitions when the lease has run out, and each of them counts as taken over."""
    await world.write(written(3_000))
    first, second = await world.serve(), await world.serve()
    await world.shared(first, second)
    begun = now()
    await second.stop(signal.SIGKILL)
    taken = await world.until(lambda found: found == {first.pid: PARTITIONS})
    assert taken - begun < LEASE + 1
    assert sum(each.history.takeovers for each in await world.look()) == PARTITIONS // 2
    assert await first.stop() == 0
    await end(world)


async def test_a_worker_that_leaves_makes_nobody_wait(world):
    """After SIGTERM the next owner has the partitions within a second of their release, and none counts as taken over."""
    await world.write(written(3_000))
    first, second = await world.serve(), await world.serve()
    await world.shared(first, second)
    assert await second.stop(signal.SIGTERM) == 0
    released = now()
    assert await world.until(lambda found: found == {first.pid: PARTITIONS}) - released < 1
    assert sum(each.history.takeovers for each in await world.look()) == 0
    assert await first.stop() == 0
    await end(world)


async def test_a_frozen_worker_is_taken_over_and_rejoins(world):
    """Stopped for longer than its lease it loses all; woken it writes nothing stale, and gets its share again."""
    await world.write(written(3_000))
    first, second = await world.serve(), await world.serve()
    await world.shared(first, second)
    second.send(signal.SIGSTOP)
    await world.until(lambda found: found == {first.pid: PARTITIONS})
    await world.write(written(3_000, seed=8))
    second.send(signal.SIGCONT)
    await world.shared(first, second)
    assert await first.stop() == await second.stop() == 0
    await end(world)


async def test_more_workers_than_partitions(make_topic, postgres_url, tmp_path):
    """Who finds no partition waits, counts as present, and takes over when one of the others leaves."""
    world = World(tmp_path, topic=make_topic(1), store=postgres_url, **SMALL)
    await world.make()
    await world.write(written(500))
    first = await world.serve()
    await world.shared(first, partitions=1)
    second = await world.serve()
    await second.said("partitions_taken")
    workers = []
    while len(workers) < 2:
        workers = await world.of_store(lambda store: store.workers())
    await first.stop()
    released = now()
    assert await world.until(lambda found: found == {second.pid: 1}) - released < 1
    assert await second.stop() == 0
    await world.close()


@pytest.fixture(params=["kafka-postgresql", "kafka-sqlite"])
async def either(request, make_topic, postgres_url, tmp_path):
    """A topic of eight partitions in Kafka, and a store of either kind."""
    store = postgres_url if request.param == "kafka-postgresql" else ""
    made = World(tmp_path, topic=make_topic(PARTITIONS), store=store, **SMALL)
    await made.make()
    yield made
    await made.close()


async def test_workers_of_one_machine_fold_together(either):
    """`--workers 3` share the partitions, and each of them folds what comes into its share, each record once."""
    service = await either.serve("--workers", "3")
    await either.until(lambda found: len(found) == 3 and max(found.values()) <= 3)
    await either.write(written(20_000))
    await either.folded(20_000)
    assert await service.stop() == 0
    assert {line["worker"] for line in service.events("batch_committed")} == {1, 2, 3}
    assert await either.held() == await either.quiet()


async def test_workers_of_one_machine_end_together(either):
    """`--workers 3 --until-end` ends by itself when all partitions are folded, whoever folded them, each record once."""
    await either.write(written(20_000))
    service = await either.serve("--workers", "3", "--until-end")
    assert (await service.ended(), service.text) == (0, "")
    assert await either.held() == await either.quiet()
