"""What befalls the topic and its group while workers fold: commits refused, the topic made anew, its start moved on."""

from __future__ import annotations

import asyncio
import json
import signal

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from fire_topics import log_of, sink_of
from kafka_fixtures import create_topic
from production import production
from under_fire import assert_same


@pytest.fixture
def admin(kafka):
    return AdminClient({"bootstrap.servers": kafka, "log_level": 0})


@pytest.fixture
async def own_topic(make_topic, scale, random):
    """A topic of the scale's size that the test may hurt."""
    topic = make_topic(8)
    async with sink_of(topic) as append:
        await append(production(scale.records, random))
    return topic


async def test_commits_of_offsets_are_refused(filled, store_url, light):
    """While Kafka refuses to note how far the log is read, everything is folded as ever, and workers say so."""
    member = Consumer({"bootstrap.servers": filled.topic.servers, "group.id": filled.topic.topic, "log_level": 0})
    member.subscribe([filled.topic.topic])
    try:
        while not member.assignment():
            await asyncio.to_thread(member.poll, 0.1)
        fleet = await light(filled.log, store_url, kafka_group_id=filled.topic.topic)
        assert_same(await fleet.folded(filled), filled.quiet)
        told = [line["reason"] for worker in fleet.workers for line in worker.events("progress_not_told")]
        assert "UnknownMemberIdError" in told
    finally:
        await asyncio.to_thread(member.close)


REFUSED = {2, 3}


async def test_a_topic_made_anew_under_living_workers(own_topic, scale, store_url, light, admin, random):
    """Deleted and made anew in the middle of the work, the topic is refused by those who read it and by the next ones."""
    fleet = await light(log_of(own_topic), store_url)
    fleet.fill()
    await fleet.all_serve()
    await fleet.reached(random.randrange(scale.records // 2))
    fleet.expect_ends()
    await make_anew(admin, own_topic)
    await fleet.tell("topic made anew")
    others = production(scale.records, random)  # more than was folded of the old one
    async with sink_of(own_topic) as append:
        await append(others)
    for worker in fleet.workers:
        assert await worker.ended(within=60) in REFUSED
        assert "RUNFOLD_LOG" in worker.text
    held = await fleet.held()
    assert runs_of(held).isdisjoint(key.decode() for key, *_ in others)
    again = fleet.join()
    fleet.expect_ends()
    assert await again.ended(within=60) in REFUSED
    assert "this store belongs to the log" in again.text
    assert_same(await fleet.held(), held)


def runs_of(held):
    rows = map(json.loads, held.lines)
    return {row["run_id"] for row in rows if row["table"] == "run"}


async def make_anew(admin, topic):
    """Kafka takes a moment to forget the name."""
    admin.delete_topics([topic.topic])[topic.topic].result(30)
    async with asyncio.timeout(60):
        while True:
            try:
                return create_topic(admin, topic.topic, partitions=8)
            except KafkaException:
                await asyncio.sleep(0.1)


async def test_the_start_moves_past_the_position(own_topic, scale, store_url, light, admin, random):
    """Where retention takes what was not folded, workers name what is lost, and fold nothing beyond it."""
    fleet = await light(log_of(own_topic), store_url)
    fleet.fill()
    await fleet.all_serve()
    await fleet.reached(random.randrange(scale.records // 2))
    for worker in fleet.living:
        for hand in worker.processes():
            await fleet.kill(hand)
    which, begin = await beyond(fleet, admin, own_topic, random)
    before = await fleet.held()
    position = {each.partition: each.position for each in await fleet.look()}[which]
    worker = fleet.join()
    fleet.expect_ends()
    assert await worker.ended(within=60) not in {0, -signal.SIGTERM}
    assert f"partition {which}: offsets {position} to {begin - 1} are gone" in worker.text
    assert_same(await fleet.held(), before)


async def beyond(fleet, admin, topic, random):
    """Delete the records of a partition to a place that is not folded yet."""
    standing = {each.partition: each.position for each in await fleet.look()}
    ends = {which: await asyncio.to_thread(end_of, topic, which) for which in standing}
    which = random.choice([which for which in standing if ends[which] > standing[which] + 1])
    begin = random.randrange(standing[which] + 1, ends[which])
    for done in admin.delete_records([TopicPartition(topic.topic, which, begin)]).values():
        done.result(30)
    await fleet.tell(f"partition {which} begins at {begin}")
    return which, begin


def end_of(topic, which):
    consumer = Consumer({"bootstrap.servers": topic.servers, "group.id": "looking", "log_level": 0})
    try:
        return consumer.get_watermark_offsets(TopicPartition(topic.topic, which), 10)[1]
    finally:
        consumer.close()
