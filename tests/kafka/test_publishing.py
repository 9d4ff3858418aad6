"""Writing Kafka: what is acknowledged is there, in order, and what is not known is said."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import NewPartitions
from kafka_producers import producer

from runfold.log import kafka_publish
from runfold.log.kafka_options import KafkaOptions
from runfold.log.kafka_publish import KafkaSink
from runfold.log.partitioner import key_hash
from runfold.log.port import LogError, LogMissing, LogUnreachable, Message, Place
from runfold.log.publisher import Publisher
from runfold_schemas import RunCreated

MESSAGE = Message(b"run_1", b"value")


async def offsets_of(source, partition, end):
    return [record.offset async for records in source.read(partition, begin=0, end=end) for record in records]


async def test_places_are_where_records_stand(topic, opened):
    """Of many messages over all partitions, in many batches, each stands where the answer says."""
    sink, source = await opened.sink(topic, batch_size=2_000), await opened.source(topic)
    messages = [Message(b"run_%d" % (number % 31), b"value %d" % number) for number in range(2_000)]
    places = await sink.append(messages)
    found = {
        Place(which, record.offset): record.value
        for which in range(4)
        async for records in source.read(which, begin=0, end=10**6)
        for record in records
    }
    assert [found[place] for place in places] == [message.value for message in messages]


async def test_appends_of_many_tasks_share_a_sink(topic, opened):
    """Appends at the same time all end, each in order."""
    sink = await opened.sink(topic, batch_size=1_000)
    answers = await asyncio.gather(*(sink.append([MESSAGE] * 100) for _ in range(20)))
    assert all([place.offset for place in places] == sorted(place.offset for place in places) for places in answers)
    assert len({place for places in answers for place in places}) == 2_000


async def test_a_record_is_where_java_would_put_it(topic, kafka_tools):
    """Kafka's own producer sends a key to the same partition as we do."""
    keys = [f"run_{number}" for number in range(60)]
    kafka_tools.console_producer(topic, [f"{key}\t{{}}" for key in keys])
    consumer = Consumer({"bootstrap.servers": topic.servers, "group.id": topic.topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic.topic])
    try:
        found = {}
        while len(found) < len(keys):
            if record := consumer.poll(30):
                found[record.key()] = record.partition()
    finally:
        consumer.close()
    assert found == {key.encode(): key_hash(key.encode()) % 4 for key in keys}


async def test_a_batch_that_the_topic_refuses_is_named_with_the_remedy(make_topic, opened):
    """A topic that takes small batches only says so, naming the setting, and takes what fits afterwards."""
    topic = make_topic(1, max_message_bytes="5000")
    sink = await opened.sink(topic, compression_type="none")
    with pytest.raises(LogError, match=r"RUNFOLD_KAFKA_BATCH_SIZE.*max\.message\.bytes") as refused:
        await sink.append([Message(b"run_1", bytes(6_000))])
    assert not isinstance(refused.value, LogUnreachable)
    assert await sink.append([MESSAGE]) == [Place(0, 0)]


async def test_writing_to_a_missing_topic_names_the_remedy(topic, opened):
    """A sink does not make a topic: partitions are for good, and somebody has to choose them."""
    with pytest.raises(LogMissing, match="runfold topic create"):
        await opened.sink(type(topic)(topic.servers, "test-not-there"))


async def test_records_are_idempotent_and_acknowledged_by_all(topic, opened, monkeypatch):
    """The producer is made idempotent, with acks=all: a repeated batch stands once."""
    made = {}

    def note(**arguments):
        made.update(arguments)
        return real(**arguments)

    real = kafka_publish.AIOKafkaProducer
    monkeypatch.setattr(kafka_publish, "AIOKafkaProducer", note)
    await opened.sink(topic)
    assert (made["enable_idempotence"], made["acks"]) == (True, "all")


async def test_a_grown_topic_is_written_as_java_would(topic, opened, admin, eventually):
    """A topic that has grown is written to all its partitions after a while, as Java's producer does."""
    sink = await opened.sink(topic)
    for done in admin.create_partitions([NewPartitions(topic.topic, 9)]).values():
        done.result(30)
    key = next(b"run_%d" % number for number in range(100) if key_hash(b"run_%d" % number) % 9 == 8)

    async def is_in_the_new_partition():
        return (await sink.append([Message(key, b"v")]))[0].partition == 8

    await eventually(is_in_the_new_partition)


async def test_the_publisher_publishes_into_kafka(topic, opened):
    """Numbered events of one run stand in one partition, in order."""
    source = await opened.source(topic)
    async with Publisher(KafkaSink(topic, KafkaOptions())) as publisher:
        event = RunCreated(run_id="run_1", thread_id="t", assistant_id="a", model="m")
        places = await asyncio.gather(*(publisher.publish(event) for _ in range(100)))
    assert {place.partition for place in places} == {key_hash(b"run_1") % 4}
    assert await offsets_of(source, places[0].partition, 10**6) == list(range(100))


async def test_a_cancelled_append_leaves_a_sound_sink(topic, opened):
    """After an append was cancelled the next one is written and answered."""
    sink = await opened.sink(topic)
    appending = asyncio.create_task(sink.append([MESSAGE] * 1_000))
    await asyncio.sleep(0)
    appending.cancel()
    await asyncio.wait((appending,))
    (place,) = await sink.append([MESSAGE])
    assert place.partition == key_hash(b"run_1") % 4


async def test_a_closed_sink_leaves_no_task_behind(topic):
    """Closing ends everything the sink began."""
    before = asyncio.all_tasks()
    sink = KafkaSink(topic, KafkaOptions())
    await sink.start()
    await sink.append([MESSAGE])
    await sink.close()
    assert asyncio.all_tasks() == before


async def test_closing_a_sink_that_never_started_does_nothing(topic):
    """Close may be called whatever became of start."""
    sink = KafkaSink(topic, KafkaOptions())
    await sink.close()
    await sink.close()


async def test_others_may_write_between_our_batches(topic, opened):
    """Offsets are those that Kafka gave, whoever else writes."""
    sink = await opened.sink(topic)
    which = key_hash(b"run_1") % 4
    first = await sink.append([MESSAGE])
    with producer(topic) as others:
        others.produce(topic.topic, b"theirs", b"run_1", which)
    assert [*first, *await sink.append([MESSAGE])] == [Place(which, 0), Place(which, 2)]


def test_publishing_needs_no_second_process_to_end(topic):
    """A script that publishes from plain Python, without asyncio, ends by itself."""
    script = (
        "import runfold, runfold_schemas as s\n"
        f"with runfold.open_sync_publisher('kafka://{topic.servers}/{topic.topic}') as publisher:\n"
        "    publisher.publish(s.RunCreated(run_id='run_1', thread_id='t', assistant_id='a', model='m'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path.cwd(), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
