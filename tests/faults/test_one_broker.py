"""The only broker there is dies and comes back, again and again, under a publisher and under workers."""

from __future__ import annotations

import asyncio

import pytest
from fire_topics import log_of, looked_at, publishing
from under_fire import BEARING, assert_same


@pytest.mark.usefixtures("collector")
async def test_the_broker_dies_and_comes_back(own_clusters_topic, scale, store_url, light, own_cluster, random):
    """Workers bear with a Kafka that is killed at random instants, and go on by themselves when it is back."""
    topic = own_clusters_topic
    fleet = await light(log_of(topic), store_url, **BEARING)
    fleet.fill()
    await fleet.all_serve()
    async with publishing(topic, random, records=scale.records):
        for _ in range(scale.times // 2):  # each takes Kafka seconds to start again
            await fleet.reached(await fleet.position() + random.randrange(1_000))
            await asyncio.to_thread(own_cluster.kill)
            await fleet.tell("broker killed")
            await asyncio.to_thread(own_cluster.restart)
            await fleet.tell("broker is back")
            await fleet.all_recovered()
    filled = await looked_at(topic)
    assert not any(worker.events("partitions_released") for worker in fleet.workers), "a worker had left"
    assert_same(await fleet.folded(filled), filled.quiet)
