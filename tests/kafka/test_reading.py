"""Reading Kafka: what aiokafka does by itself, and what the source makes of it."""

from __future__ import annotations

import asyncio

import psutil
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition
from confluent_kafka.admin import NewPartitions
from kafka_batches import write_with_header
from kafka_producers import produce, producer

from runfold.log.kafka import KafkaSource
from runfold.log.kafka_options import Address, KafkaOptions
from runfold.log.partitioner import key_hash
from runfold.log.port import LogMissing, LogUnreachable, Message

FETCH = {"most_records": 1_000, "most_bytes": 10_000_000, "wait": 1}


async def test_assigning_forgets_no_position(topic, opened, read_to):
    """aiokafka forgets all positions when partitions are assigned; each is sought again before anything is read."""
    produce(topic, *[b"%d" % number for number in range(10)], partition=0)
    produce(topic, b"other", partition=1)
    source = await opened.source(topic)
    source.assign({0: 0})
    await read_to(source, {0: 10})
    source.assign({0: source.position(0), 1: 0})
    assert [record.value for record in (await read_to(source, {0: 10, 1: 1}))[1]] == [b"other"]


async def test_offsets_in_kafka_are_never_read_back(topic, opened, eventually, read_to):
    """Where the store says to begin is where reading begins, whatever offset Kafka knows of the group."""
    produce(topic, *[b"%d" % number for number in range(10)])
    source = await opened.source(topic, group_id=topic.topic)
    source.assign({0: 0})
    source.tell_progress({0: 9})
    consumer = AIOKafkaConsumer(bootstrap_servers=topic.servers, group_id=topic.topic)
    await consumer.start()
    try:
        await eventually(lambda: consumer.committed(TopicPartition(topic.topic, 0)))
    finally:
        await consumer.stop()
    again = await opened.source(topic, group_id=topic.topic)
    again.assign({0: 2})
    assert [record.offset for record in (await read_to(again, {0: 10}))[0]] == list(range(2, 10))


async def test_the_position_is_that_after_the_records_given(topic, opened):
    """While more is fetched in the background, the position stays behind the last record that was given."""
    produce(topic, *[b"%d" % number for number in range(100)])
    source = await opened.source(topic)
    source.assign({0: 0})
    seen = []
    while len(seen) < 100:
        for records in (await source.fetch(most_records=7, most_bytes=10**6, wait=1)).values():
            seen += [record.offset for record in records]
            assert source.position(0) == seen[-1] + 1
        await asyncio.sleep(0)
    assert seen == list(range(100))


async def test_what_exceeds_the_bytes_is_given_next(topic, opened, read_to):
    """Records beyond the bytes of a batch come with the following batches: none is lost, none comes twice."""
    sizes = [10, 5_000, 10, 9_000, 20_000, 10, 10, 3_000] * 5
    produce(topic, *[bytes(size) for size in sizes])
    source = await opened.source(topic)
    source.assign({0: 0})
    found = (await read_to(source, {0: len(sizes)}, most_bytes=10_000))[0]
    assert [len(record.value) for record in found] == sizes


async def test_a_cancelled_batch_comes_again(topic, opened, read_to, monkeypatch):
    """A fetch that is cancelled after its records were taken gives them to the next one."""
    produce(topic, *[b"%d" % number for number in range(10)])
    source = await opened.source(topic)
    source.assign({0: 0})
    looking = asyncio.Event()

    async def look_for_ever():
        looking.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as slow:
        slow.setattr(source, "identity", look_for_ever)
        fetching = asyncio.create_task(source.fetch(**FETCH))
        await looking.wait()
        assert source.position(0) == 10
        fetching.cancel()
        await asyncio.wait((fetching,))
    assert source.position(0) == 0
    assert [record.offset for record in (await read_to(source, {0: 10}))[0]] == list(range(10))


async def test_a_batch_of_partitions_handed_over_is_dropped(topic, opened, monkeypatch):
    """What was taken before an assignment is not given after it, and does not move the new positions."""
    produce(topic, *[b"%d" % number for number in range(10)])
    source = await opened.source(topic)
    source.assign({0: 0})
    looking, go_on = asyncio.Event(), asyncio.Event()
    identity = source.identity

    async def look_slowly():
        looking.set()
        await go_on.wait()
        return await identity()

    monkeypatch.setattr(source, "identity", look_slowly)
    fetching = asyncio.create_task(source.fetch(**FETCH))
    await looking.wait()
    source.assign({0: 4})
    go_on.set()
    assert (await fetching, source.position(0)) == ({}, 4)


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_every_codec_is_read(topic, opened, read_to, codec):
    """A topic may be compressed with any of Kafka's codecs, by a producer of others too."""
    sent = [b"value %d" % number * 20 for number in range(200)]
    produce(topic, *sent, compression_type=codec, linger_ms=50)
    source = await opened.source(topic)
    source.assign({0: 0})
    assert [record.value for record in (await read_to(source, {0: 200}))[0]] == sent


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_every_codec_is_written(topic, opened, codec):
    """We write with any of Kafka's codecs, and Kafka takes it."""
    sink = await opened.sink(topic, compression_type=codec)
    source = await opened.source(topic)
    places = await sink.append([Message(b"run_1", b"value %d" % number * 20) for number in range(50)])
    assert (await source.record_at(*places[49])).value == b"value 49" * 20


async def test_a_record_of_a_million_bytes_is_read(topic, opened, read_to):
    """The largest event there may be goes through, from us and from others."""
    sink, source = await opened.sink(topic), await opened.source(topic)
    (place,) = await sink.append([Message(b"run_1", bytes(1_000_000))])
    produce(topic, bytes(1_000_000), partition=place.partition, message_max_bytes=1_048_588)
    source.assign({place.partition: 0})
    found = await read_to(source, {place.partition: 2})
    assert [len(record.value) for record in found[place.partition]] == [1_000_000] * 2


async def test_a_record_larger_than_a_fetch_is_read(make_topic, opened, read_to):
    """A record above what is asked for in one fetch comes nevertheless, alone."""
    topic = make_topic(1, max_message_bytes="6000000")
    produce(topic, b"before", bytes(5_000_000), b"after", message_max_bytes=6_000_000)
    source = await opened.source(topic, max_partition_fetch_bytes=100_000)
    source.assign({0: 0})
    assert [len(record.value) for record in (await read_to(source, {0: 3}))[0]] == [6, 5_000_000, 5]


async def test_null_keys_and_values_are_read_as_none(topic, opened, read_to):
    """A record without a key or without a value is given as it is: the fold has a word for it."""
    with producer(topic) as others:
        others.produce(topic.topic, b"no key", None, 0)
        others.produce(topic.topic, None, b"run_1", 0)
        others.produce(topic.topic, b"", b"", 0)
    source = await opened.source(topic)
    source.assign({0: 0})
    found = (await read_to(source, {0: 3}))[0]
    assert [(record.key, record.value) for record in found] == [(None, b"no key"), (b"run_1", None), (b"", b"")]


async def test_headers_of_others_are_read(topic, opened, read_to):
    """Headers come as they were written, in their order, names used twice included."""
    headers = [("trace", b"\x00\xff"), ("trace", b"2"), ("empty", b"")]
    with producer(topic) as others:
        others.produce(topic.topic, b"v", b"run_1", 0, headers=headers)
    source = await opened.source(topic)
    source.assign({0: 0})
    assert [tuple(header) for header in (await read_to(source, {0: 1}))[0][0].headers] == headers


async def test_stamps_of_the_broker_are_read(make_topic, opened, read_to):
    """Where Kafka stamps the records, that is their timestamp, not what the producer said."""
    topic = make_topic(1, message_timestamp_type="LogAppendTime")
    with producer(topic) as others:
        others.produce(topic.topic, b"v", b"run_1", 0, timestamp=1_000_000_000_000)
    source = await opened.source(topic)
    source.assign({0: 0})
    assert (await read_to(source, {0: 1}))[0][0].timestamp > 1_700_000_000_000


async def test_nothing_assigned_reads_nothing(topic, opened):
    """Without partitions a fetch waits and gives nothing, and later ones are read again."""
    produce(topic, b"1")
    source = await opened.source(topic)
    source.assign({})
    assert await source.fetch(most_records=1, most_bytes=1, wait=0.01) == {}
    source.assign({0: 0})
    assert list(await source.fetch(**FETCH)) == [0]


async def has_grown(source) -> bool:
    return await source.partitions() == 6


async def test_partitions_added_are_seen_and_not_read_unasked(topic, opened, admin, eventually):
    """A topic that grows tells its new number of partitions, and goes on with those that are assigned."""
    source = await opened.source(topic)
    source.assign({0: 0})
    for done in admin.create_partitions([NewPartitions(topic.topic, 6)]).values():
        done.result(30)
    produce(topic, b"new", partition=5)
    produce(topic, b"old", partition=0)
    await eventually(lambda: has_grown(source))
    assert set(await source.fetch(**FETCH)) == {0}


async def test_a_missing_topic_is_named_with_the_remedy(opened, topic):
    """Starting on a topic that is not there says so, and does not make it."""
    other = Address(topic.servers, "test-not-there")
    for _ in range(2):
        with pytest.raises(LogMissing, match=r"test-not-there.*runfold topic create"):
            await opened.source(other)


async def test_waiting_for_a_topic_holds_one_connection(topic):
    """Whoever starts again and again until a topic is there leaves no connections of those starts behind."""
    source = KafkaSource(Address(topic.servers, "test-not-there"), KafkaOptions())
    before = connections_to(topic)
    for _ in range(3):
        with pytest.raises(LogMissing):
            await source.start()
    assert connections_to(topic) <= before + 1
    await source.close()
    assert connections_to(topic) == before


def connections_to(topic):
    """How many this process has to the broker."""
    port = int(topic.servers.rpartition(":")[2])
    told = psutil.Process().net_connections("tcp")
    return sum(bool(each.raddr) and each.raddr.port == port and each.status == "ESTABLISHED" for each in told)


async def test_an_unreachable_kafka_is_named(opened):
    """Where nobody listens, the error names the setting and the address, and comes soon."""
    async with asyncio.timeout(10):
        with pytest.raises(LogUnreachable, match=r"RUNFOLD_LOG: Kafka at 127\.0\.0\.1:1 .*ConnectionRefused"):
            await opened.source(Address("127.0.0.1:1", "run-events"))


@pytest.mark.parametrize("name", [b"\xff\xfe", b"tr\xe9sor"])
async def test_a_header_whose_name_is_no_text(topic, opened, read_to, name):
    """aiokafka would refuse its batch for ever: it is read with all others, and a bad name is shown by backslashes."""
    produce(topic, b"before")
    produce(topic, b"elsewhere", partition=1)
    await write_with_header(topic, [b"a", b"b", b"c"], name=name)
    produce(topic, b"behind")
    shown = ((name.decode(errors="backslashreplace"), b"kept"),)
    source = await opened.source(topic)
    source.assign({0: 0, 1: 0})
    found = await read_to(source, {0: 5, 1: 1})
    assert [record.value for record in found[0]] == [b"before", b"a", b"b", b"c", b"behind"]
    assert [tuple(record.headers) for record in found[0]] == [(), (), shown, (), ()]
    assert [record.value for record in found[1]] == [b"elsewhere"]
    read = [record async for records in source.read(0, begin=0, end=5) for record in records]
    assert [(record.offset, record.value) for record in read] == [(each.offset, each.value) for each in found[0]]
    assert tuple((await source.record_at(0, 2)).headers) == shown


async def ends_at(source, end) -> bool:
    return (await source.ranges([0]))[0].end == end


async def test_a_stretch_goes_over_gaps(make_topic, opened, eventually):
    """Reading a stretch goes on over offsets that have no record any more."""
    topic = make_topic(1)
    source = await opened.source(topic)
    with producer(topic, transactional_id=topic.topic) as others:
        others.init_transactions(30)
        for end in (others.commit_transaction, others.abort_transaction, others.commit_transaction):
            others.begin_transaction()
            for number in range(3):
                others.produce(topic.topic, b"%d" % number, b"run_1", 0)
            others.flush(30)  # or an abort would forget what was not sent yet
            end()
    await eventually(lambda: ends_at(source, 12))
    found = [record.offset async for records in source.read(0, begin=0, end=100) for record in records]
    assert found == [0, 1, 2, 8, 9, 10]


async def test_java_and_we_agree_on_partitions(topic, opened):
    """A key goes to the partition that our own partitioner names, so that runs stay whole among producers."""
    sink = await opened.sink(topic)
    keys = [b"run_%d" % number for number in range(40)]
    places = await sink.append([Message(key, b"v") for key in keys])
    assert [place.partition for place in places] == [key_hash(key) % 4 for key in keys]
