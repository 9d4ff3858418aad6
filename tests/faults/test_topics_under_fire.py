"""What befalls the topic and its group while workers fold: commits refused, the topic made anew, its start moved on."""

from __future__ import annotations

import asyncio
import json
import signal

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from fire_topics import log_of, looked_at, sink_of
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


@pytest.mark.usefixtures("collector")
async def test_the_start_moves_past_the_position(own_topic, scale, store_url, light, admin, random):
    """What retention took unfolded is named, and refused; accepted, all but that is folded, and it stays on record."""
    filled = await looked_at(own_topic)
    fleet = await light(log_of(own_topic), store_url)
    fleet.fill()
    await fleet.all_serve()
    await fleet.reached(random.randrange(scale.records // 2))
    for worker in fleet.living:
        for hand in worker.processes():
            await fleet.kill(hand)
    which, begin, end = await beyond(fleet, admin, filled, random)
    before = await fleet.held()
    worker = fleet.join()
    fleet.expect_ends()
    assert await worker.ended(within=60) not in {0, -signal.SIGTERM}
    assert f"partition {which}: offsets {begin} to {end - 1} are gone" in worker.text
    assert_folded(await fleet.held(), before, which)
    assert not (await fleet.status()).healthy
    await fleet.until_end("--accept-loss")
    after, lost = await fleet.held(), await fleet.lost_ranges()
    assert after.records == filled.records - (end - begin)
    assert whole(after, filled.quiet) == set(filled.ends) - {which}
    assert [(each.partition, each.begin, each.end) for each in lost] == [(which, begin, end)]
    assert lost[0].accepted_at is not None


def assert_folded(found, before, which):
    """Nothing of the partition was folded meanwhile."""
    assert found.digest.partitions[which] == before.digest.partitions[which]


def whole(found, quiet):
    """The partitions that are as if nothing had been lost."""
    return {which for which, of in found.digest.partitions.items() if of == quiet.digest.partitions[which]}


async def beyond(fleet, admin, filled, random):
    """Delete a partition's records up to a place behind its position; returns what is lost."""
    standing = {each.partition: each.position for each in await fleet.look()}
    which = random.choice([which for which, end in filled.ends.items() if end > standing[which] + 1])
    end = random.randrange(standing[which] + 1, filled.ends[which])
    for done in admin.delete_records([TopicPartition(filled.topic.topic, which, end)]).values():
        done.result(30)
    await fleet.tell(f"partition {which} begins at {end}")
    return which, standing[which], end
