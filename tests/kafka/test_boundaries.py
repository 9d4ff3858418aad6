"""Where a Kafka log begins and ends: retention, transactions, positions out of range, topics deleted and made anew."""

from __future__ import annotations

import asyncio
import logging

import pytest
from confluent_kafka import TopicPartition
from kafka_fixtures import create_topic
from kafka_producers import produce, transaction

from runfold.log.kafka_logging import Throttle
from runfold.log.port import LogCutShort, LogIdentity, LogMissing, Message, Range, RangeLost

FETCH = {"most_records": 1_000, "most_bytes": 10_000_000, "wait": 1}


async def fetch_until(source, error):
    """Fetch until it raises the error."""
    async with asyncio.timeout(30):
        with pytest.raises(error) as caught:
            while True:
                await source.fetch(**FETCH)
    return caught.value


def delete_records(admin, topic, before):
    for done in admin.delete_records([TopicPartition(topic.topic, 0, before)]).values():
        done.result(30)


async def reach(source, end):
    """Wait until the log ends there: Kafka answers before a transaction's marker is written."""
    async with asyncio.timeout(30):
        while (await source.ranges([0]))[0].end < end:  # noqa: ASYNC110 - Kafka tells nobody
            await asyncio.sleep(0.01)


async def test_aborted_records_are_never_given(topic, opened, read_to):
    """Records of an aborted transaction are skipped, and the position goes past them and past the marker."""
    source = await opened.source(topic)
    with transaction(topic, topic.topic) as others:
        others.produce(topic.topic, b"aborted", b"run_1", 0)
        others.flush(30)
        others.abort_transaction(30)
    await reach(source, 2)
    produce(topic, b"kept")
    source.assign({0: 0})
    found = await read_to(source, {0: 3})
    assert [(record.offset, record.value) for record in found[0]] == [(2, b"kept")]


async def test_a_log_that_ends_with_a_marker_is_read_to_its_end(topic, opened, read_to):
    """The position reaches the end though the last offsets hold no record for anybody."""
    with transaction(topic, topic.topic) as others:
        others.produce(topic.topic, b"1", b"run_1", 0)
        others.commit_transaction(30)
        others.begin_transaction()
        others.produce(topic.topic, b"aborted", b"run_1", 0)
        others.flush(30)
        others.abort_transaction(30)
    source = await opened.source(topic)
    await reach(source, 4)
    source.assign({0: 0})
    found = await read_to(source, {0: 4})
    assert ([record.offset for record in found[0]], source.position(0)) == ([0], 4)


async def test_an_open_transaction_ends_the_log_before_it(topic, opened, read_to):
    """What an open transaction wrote is beyond the end, with all that came after it; how much is told."""
    produce(topic, b"before")
    source = await opened.source(topic)
    with transaction(topic, topic.topic) as others:
        others.produce(topic.topic, b"open", b"run_1", 0)
        others.flush(30)
        produce(topic, b"behind")
        assert await source.ranges([0]) == {0: Range(0, 1)}
        held = await source.held_back([0, 1])
        assert {which: each.offsets for which, each in held.items()} == {0: 2}
        assert held[0].since > (await source.record_at(0, 0)).timestamp - 1
        source.assign({0: 0})
        assert [record.value for record in (await read_to(source, {0: 1}))[0]] == [b"before"]
        others.commit_transaction(30)
    assert [record.value for record in (await read_to(source, {0: 4}))[0]] == [b"open", b"behind"]
    assert await source.held_back([0]) == {}


async def test_a_marker_is_no_record(topic, opened):
    """Asked for the record at a marker's offset or an aborted one's, the log has none."""
    source = await opened.source(topic)
    with transaction(topic, topic.topic) as others:
        others.produce(topic.topic, b"aborted", b"run_1", 0)
        others.flush(30)
        others.abort_transaction(30)
    await reach(source, 2)
    produce(topic, b"kept")
    found = [await source.record_at(0, offset) for offset in range(4)]
    assert [record and record.value for record in found] == [None, None, b"kept", None]


async def test_a_record_within_a_batch_is_found(topic, opened):
    """A record in the middle of a compressed batch is found by its offset."""
    produce(topic, *[b"%d" % number for number in range(50)], linger_ms=50, compression_type="zstd")
    source = await opened.source(topic)
    assert [(await source.record_at(0, offset)).value for offset in (0, 23, 49)] == [b"0", b"23", b"49"]


async def test_a_lost_range_is_told_and_never_jumped(topic, opened, admin):
    """A position below the log's begin is an error that names what is gone, on every fetch; nothing is reset."""
    produce(topic, *[b"%d" % number for number in range(10)])
    delete_records(admin, topic, 6)
    source = await opened.source(topic)
    source.assign({0: 2})
    for _ in range(2):
        lost = await fetch_until(source, RangeLost)
        assert (lost.partition, lost.wanted, lost.begin, source.position(0)) == (0, 2, 6, 2)


async def test_a_begin_that_overtakes_a_reader_is_told(topic, opened, admin, read_to):
    """Retention that takes what was not read yet is told, also to a reader that was going well."""
    produce(topic, *[b"%d" % number for number in range(10)])
    source = await opened.source(topic)
    source.assign({0: 0})
    await read_to(source, {0: 10})
    source.assign({0: 0})
    delete_records(admin, topic, 10)
    assert (await fetch_until(source, RangeLost)).begin == 10


async def test_a_position_beyond_the_log_is_told(topic, opened):
    """A log that ends before the position has lost records, or is another one."""
    produce(topic, b"0", b"1")
    source = await opened.source(topic)
    source.assign({0: 7})
    cut = await fetch_until(source, LogCutShort)
    assert (cut.wanted, cut.end) == (7, 2)


async def test_the_end_is_no_position_beyond_the_log(topic, opened):
    """A reader at the end waits for what comes."""
    produce(topic, b"0")
    source = await opened.source(topic)
    source.assign({0: 1})
    assert await source.fetch(**(FETCH | {"wait": 0.2})) == {}


async def test_one_partition_out_of_range_keeps_no_record_of_others_back(topic, opened):
    """Records of sound partitions are given, and the error comes with a later fetch."""
    produce(topic, b"sound", partition=1)
    source = await opened.source(topic)
    source.assign({0: 5, 1: 0})
    seen: dict[int, list] = {}
    async with asyncio.timeout(30):
        with pytest.raises(LogCutShort):
            while True:
                seen |= await source.fetch(**FETCH)
                if 1 in seen:
                    assert source.position(1) == 1
        while 1 not in seen:
            try:
                seen |= await source.fetch(**FETCH)
            except LogCutShort:
                continue
    assert [record.value for record in seen[1]] == [b"sound"]


async def test_reading_a_stretch_below_the_begin_is_refused(topic, opened, admin):
    """A stretch that begins before the log does is a lost range."""
    produce(topic, *[b"%d" % number for number in range(10)])
    delete_records(admin, topic, 3)
    source = await opened.source(topic)
    with pytest.raises(RangeLost):
        async for _ in source.read(0, begin=0, end=10):
            pass
    assert await source.record_at(0, 2) is None


def delete_topic(admin, topic):
    for done in admin.delete_topics([topic.topic]).values():
        done.result(30)


async def make_anew(admin, topic):
    """Delete the topic and make it anew; Kafka takes a moment to forget the name."""
    delete_topic(admin, topic)
    while True:
        try:
            return create_topic(admin, topic.topic, partitions=4)
        except Exception as error:  # noqa: BLE001 - whatever confluent-kafka raises
            assert "already exists" in str(error)
            await asyncio.sleep(0.1)


async def test_a_topic_made_anew_has_another_identity(topic, opened, admin, eventually):
    """The name is the same, the log is not."""
    source = await opened.source(topic)
    before = await source.identity()
    await make_anew(admin, topic)

    async def told() -> LogIdentity | None:
        try:
            return await source.identity()
        except LogMissing:
            return None  # brokers hear of it one after the other

    after = await eventually(told)
    assert (after.topic, after.cluster_id != before.cluster_id) == (before.topic, True)


async def test_a_topic_made_anew_under_a_living_reader_is_refused(topic, opened, admin, read_to):
    """Kafka would be read on in silence; the reader is told, and none of the new topic's records is given."""
    produce(topic, *[b"old"] * 3)
    source = await opened.source(topic)
    source.assign({0: 0})
    await read_to(source, {0: 3})
    await make_anew(admin, topic)
    produce(topic, *[b"new"] * 10)
    given = []

    async def read_on():
        while True:
            for records in (await source.fetch(**FETCH)).values():
                given.extend(records)

    with pytest.raises(LogMissing, match=r"made anew|no topic"):
        await asyncio.wait_for(read_on(), 30)
    assert given == []


async def test_a_topic_deleted_under_a_living_reader_is_told_quietly(topic, opened, admin, read_to, caplog):
    """The reader is told within seconds, and aiokafka's thousands of messages are few."""
    produce(topic, b"0")
    source = await opened.source(topic)
    source.assign({0: 0})
    await read_to(source, {0: 1})
    with caplog.at_level(logging.WARNING, "aiokafka"):
        delete_topic(admin, topic)
        await fetch_until(source, LogMissing)
        await asyncio.sleep(1)  # what goes on after it was told would be logged now
    assert len(caplog.records) < 20


async def test_a_writer_learns_of_a_topic_made_anew(topic, opened, admin):
    """Writing to what is another log now is refused as well, and soon."""
    sink = await opened.sink(topic)
    await sink.append([Message(b"run_1", b"old")])
    await make_anew(admin, topic)

    async def write_on():
        while True:
            await sink.append([Message(b"run_1", b"new")])

    with pytest.raises(LogMissing, match=r"made anew|no topic"):
        await asyncio.wait_for(write_on(), 30)


def test_the_throttle_counts_what_it_keeps_back():
    """A message passes once in its time, whatever it is about; the next one says how many did not."""
    now = 0.0
    throttle = Throttle(seconds=10, clock=lambda: now)

    def record(topic):
        return logging.LogRecord("aiokafka", logging.WARNING, "", 0, "no topic %s", (topic,), None)

    assert [throttle.filter(record(name)) for name in "abc"] == [True, False, False]
    now = 11.0
    later = record("d")
    assert throttle.filter(later)
    assert later.getMessage() == "no topic d (2 more like it since)"
