"""What befalls the topic and its group while workers fold: commits refused, the topic made anew, its start moved on."""

from __future__ import annotations

import asyncio
import json
import signal

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from fire_topics import ends_of, folded_in_quiet, log_of, sink_of
from kafka_fixtures import create_topic
from production import production
from serving import Scripted
from under_fire import assert_same

from runfold.log.kafka import KafkaSource
from runfold.log.kafka_options import KafkaOptions


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
    fleet = await light(log_of(own_topic), store_url)
    fleet.fill()
    await fleet.all_serve()
    await fleet.reached(random.randrange(scale.records // 2))
    for worker in fleet.living:
        for hand in worker.processes():
            await fleet.kill(hand)
    which, lost = await chosen(fleet, own_topic, random)
    quiet = await folded_without(own_topic, which, lost)
    before = await fleet.held()
    await delete(admin, own_topic, which, upto=lost.stop)
    await fleet.tell(f"partition {which} begins at {lost.stop}")
    await assert_refused(fleet, which, lost)
    assert (await fleet.held()).digest.partitions[which] == before.digest.partitions[which], "it was folded on"
    assert [range_of(each) for each in await fleet.lost_ranges()] == [(which, lost)]
    await fleet.until_end("--accept-loss")
    assert_same(await fleet.held(), quiet)
    (recorded,) = await fleet.lost_ranges()
    assert range_of(recorded) == (which, lost)
    assert recorded.accepted_at is not None


async def assert_refused(fleet, which, lost):
    """Who serves now ends, and says what is gone; status says so too."""
    worker = fleet.join()
    fleet.expect_ends()
    assert await worker.ended(within=60) not in {0, -signal.SIGTERM}
    assert f"partition {which}: offsets {lost.start} to {lost[-1]} are gone" in worker.text
    assert any(f"partition {which}" in line and str(lost.start) in line for line in (await fleet.status()).unhealthy)


def range_of(recorded):
    return recorded.partition, range(recorded.begin, recorded.end)


async def chosen(fleet, topic, random):
    """A partition that is not folded to its end, and offsets from its position on, but not up to its end."""
    standing = {each.partition: each.position for each in await fleet.look()}
    ends = await ends_of(topic)
    which = random.choice([which for which, end in ends.items() if end > standing[which] + 1])
    return which, range(standing[which], random.randrange(standing[which] + 1, ends[which]))


async def folded_without(topic, which, lost):
    """What a quiet fold of a topic comes to that has never had these offsets: exactly what is left of it."""

    async def fetch(real, **bounds):
        got = {
            partition: [each for each in records if partition != which or each.offset not in lost]
            for partition, records in (await real(**bounds)).items()
        }
        return {partition: records for partition, records in got.items() if records}

    return await folded_in_quiet(Scripted(KafkaSource(topic, KafkaOptions()), fetch=fetch))


async def delete(admin, topic, which, *, upto):
    """As retention does: everything in front of an offset."""
    for done in admin.delete_records([TopicPartition(topic.topic, which, upto)]).values():
        await asyncio.to_thread(done.result, 30)
