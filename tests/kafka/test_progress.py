"""Kafka's own tools see how far the log is read; nothing depends on it."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, errors
from aiokafka.structs import TopicPartition
from confluent_kafka import Consumer
from kafka_producers import produce
from structlog.testing import capture_logs

from runfold.log import kafka_progress


@pytest.fixture
def committed(topic):
    """What Kafka knows of the group named like the topic, by partition."""

    async def ask():
        consumer = AIOKafkaConsumer(bootstrap_servers=topic.servers, group_id=topic.topic)
        await consumer.start()
        try:
            found = {which: await consumer.committed(TopicPartition(topic.topic, which)) for which in range(4)}
        finally:
            await consumer.stop()
        return {which: offset for which, offset in found.items() if offset is not None}

    return ask


def comes_to(committed, expected):
    """The condition that exactly this is committed."""

    async def is_so() -> bool:
        return await committed() == expected

    return is_so


async def test_kafkas_own_tool_shows_the_lag(topic, opened, kafka_tools, committed, eventually):
    """`kafka-consumer-groups` shows position, end and lag of each partition told."""
    produce(topic, *[b"%d" % number for number in range(10)], partition=2)
    source = await opened.source(topic, group_id=topic.topic)
    source.assign({2: 0})
    source.tell_progress({2: 7})
    await eventually(committed)
    assert await asyncio.to_thread(kafka_tools.lag, topic.topic) == {2: (7, 10, 3)}


async def test_one_partition_given_away_holds_up_no_other(topic, opened, committed, eventually):
    """aiokafka refuses to commit anything where one partition is not assigned; the hint is committed all the same."""
    consumer = AIOKafkaConsumer(bootstrap_servers=topic.servers, group_id=topic.topic)
    await consumer.start()
    consumer.assign([TopicPartition(topic.topic, 0)])
    with pytest.raises(errors.IllegalStateError):
        await consumer.commit({TopicPartition(topic.topic, which): 1 for which in (0, 1)})
    await consumer.stop()
    source = await opened.source(topic, group_id=topic.topic)
    source.assign({0: 0})
    source.tell_progress({0: 5, 1: 6})
    await eventually(comes_to(committed, {0: 5, 1: 6}))


async def test_what_others_own_now_is_not_told(topic, opened, committed, monkeypatch, eventually):
    """Progress of a partition that was given away before it was told stays untold."""
    source = await opened.source(topic, group_id=topic.topic)
    source.assign({0: 0, 1: 0})
    source.tell_progress({0: 5, 1: 6})
    source.assign({1: 6})
    await eventually(comes_to(committed, {1: 6}))


async def test_closing_tells_the_last_progress(topic, opened, committed, eventually):
    """What was folded last is told when the source closes."""
    source = await opened.source(topic, group_id=topic.topic)
    source.assign({0: 0})
    source.tell_progress({0: 1})
    await eventually(comes_to(committed, {0: 1}))
    source.tell_progress({0: 3})
    await source.close()
    assert await committed() == {0: 3}


async def test_closing_in_the_middle_of_telling_tells(topic, opened, committed, eventually, monkeypatch):
    """A source that is closed while a commit is under way makes it again."""
    source = await opened.source(topic, group_id=topic.topic)
    source.assign({0: 0})
    telling, commit = asyncio.Event(), kafka_progress.ProgressHint._commit

    async def hang_once(self, positions):
        if not telling.is_set():
            telling.set()
            await asyncio.Event().wait()
        await commit(self, positions)

    monkeypatch.setattr(kafka_progress.ProgressHint, "_commit", hang_once)
    source.tell_progress({0: 3})
    await telling.wait()
    await source.close()
    await eventually(comes_to(committed, {0: 3}))


async def test_a_refused_commit_is_a_warning_and_tried_again(topic, opened, committed, eventually):
    """While members of a group of that name are alive Kafka refuses; that is told once, and mended when they are gone."""
    member = Consumer({"bootstrap.servers": topic.servers, "group.id": topic.topic, "log_level": 0})
    member.subscribe([topic.topic])
    while not member.assignment():
        await asyncio.to_thread(member.poll, 0.1)
    source = await opened.source(topic, group_id=topic.topic)
    source.assign({0: 0})
    with capture_logs() as logs:
        source.tell_progress({0: 4})

        async def warned():
            await asyncio.to_thread(member.poll, 0.01)
            return [log for log in logs if log["event"] == "progress_not_told"]

        assert [log["reason"] for log in await eventually(warned)] == ["UnknownMemberIdError"]
        member.close()
        await eventually(comes_to(committed, {0: 4}))
    assert len([log for log in logs if log["event"] == "progress_not_told"]) == 1


async def test_a_commit_that_hangs_holds_up_nothing(topic, opened, monkeypatch):
    """Reading goes on, and closing is done in time, while Kafka does not answer a commit."""
    produce(topic, b"0")
    source = await opened.source(topic)

    async def hang(self, positions):
        await asyncio.Event().wait()

    monkeypatch.setattr(kafka_progress.ProgressHint, "_commit", hang)
    source.assign({0: 0})
    source.tell_progress({0: 1})
    assert list(await source.fetch(most_records=1, most_bytes=1, wait=10)) == [0]
    async with asyncio.timeout(5):
        await source.close()
