"""One of three brokers is lost, any of them each time, under a publisher and under workers; the topic has three copies."""

from __future__ import annotations

import asyncio

import pytest
from fire_topics import log_of, looked_at, publishing
from under_fire import BEARING, assert_same

OWN_CLUSTER = {"brokers": 3}
BEYOND_WHAT_IS_FETCHED = 2_000


@pytest.mark.usefixtures("collector")
async def test_one_of_three_brokers_is_lost(own_clusters_topic, scale, store_url, light, own_cluster, random):
    """While any one of three brokers is dead, events are published and folded on, and none is lost or folded twice."""
    topic = own_clusters_topic
    fleet = await light(log_of(topic), store_url, **BEARING)
    fleet.fill()
    await fleet.all_serve()
    async with publishing(topic, random, records=scale.records):
        for _ in range(scale.times // 2):  # each takes Kafka seconds to start again
            await fleet.reached(await fleet.position() + random.randrange(1_000))
            lost = random.choice(own_cluster.nodes).number
            await asyncio.to_thread(own_cluster.kill, lost)
            await fleet.tell(f"broker {lost} lost")
            await fleet.reached(await fleet.position() + BEYOND_WHAT_IS_FETCHED)
            await asyncio.to_thread(own_cluster.restart, lost)
            await fleet.tell(f"broker {lost} is back")
    filled = await looked_at(topic)
    assert_same(await fleet.folded(filled), filled.quiet)
