"""A real topic archived, read behind its tail, and restored: transactions, codecs, retention, timestamps."""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict

import pytest
from archives import archive_log, archived, plain, read_all, started
from confluent_kafka import TopicPartition
from kafka_producers import producer, transaction
from serving import messages, settings_of, traffic

from runfold import wiring
from runfold.log.archive import ArchiveSource
from runfold.log.archive_manifest import Limits
from runfold.log.clock import wall_clock
from runfold.log.kafka import KafkaSource
from runfold.log.kafka_options import Address, KafkaOptions
from runfold.log.kafka_restore import KafkaRestorer
from runfold.log.kafka_topic import DAY
from runfold.log.port import LogError, Range, RangeLost
from runfold.log.whole import WholeLog
from runfold.replay.history import history
from runfold.replay.restoring import restore
from runfold.replay.verify import verify
from runfold.service.serve import serve

pytestmark = pytest.mark.usefixtures("collector")

PARTITIONS = range(4)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "archive"


def source_of(topic):
    return KafkaSource(topic, KafkaOptions())


def whole_of(topic, folder):
    return WholeLog(ArchiveSource(folder), source_of(topic), where=folder)


async def archive_topic(topic, folder):
    async with started(source_of(topic)) as source:
        return await archive_log(source, folder, Limits(records=300))


async def content(source):
    return [
        plain(await read_all(source, which, begin=(await source.ranges([which]))[which].begin)) for which in PARTITIONS
    ]


def forget(admin, topic, befores):
    for done in admin.delete_records(
        [TopicPartition(topic.topic, which, before) for which, before in befores.items()]
    ).values():
        done.result(30)


async def test_every_codec_and_header_is_archived_as_it_is_read(topic, folder):
    """Whatever producers set, the archive gives what Kafka gives: headers, null values and keys, timestamps."""
    for number, codec in enumerate(("none", "gzip", "snappy", "lz4", "zstd")):
        with producer(topic, compression_type=codec) as made:
            for value in (b"x" * 1000, None, b""):
                made.produce(topic.topic, value, b"run_1", 0, headers=[("codec", codec.encode()), ("null", None)])
                made.produce(topic.topic, value, None, 1, timestamp=1_700_000_000_000 - number)
    await archive_topic(topic, folder)
    async with started(source_of(topic)) as live, started(ArchiveSource(folder)) as source:
        assert await content(source) == await content(live)
        assert sum(map(len, await content(source))) == 30


async def test_marks_of_transactions_are_covered(topic, folder):
    """Offsets that hold no record are within the archive's ranges, and nothing of an aborted transaction is in it."""
    with transaction(topic, topic.topic) as others:
        others.produce(topic.topic, b"committed", b"run_1", 0)
        others.commit_transaction(30)
        others.begin_transaction()
        others.produce(topic.topic, b"aborted", b"run_1", 0)
        others.flush(30)
        others.abort_transaction(30)
    async with started(source_of(topic)) as source:
        async with asyncio.timeout(30):
            while (await source.ranges([0]))[0].end < 4:  # noqa: ASYNC110 - Kafka tells nobody
                await asyncio.sleep(0.01)
    await archive_topic(topic, folder)
    async with started(ArchiveSource(folder)) as source:
        assert (await source.ranges([0]))[0] == Range(0, 4)
    assert [(each.offset, each.value) for each in await archived(folder)] == [(0, b"committed")]
    assert await archive_topic(topic, folder) == []


async def test_an_open_transaction_is_not_archived(topic, folder):
    """What is not decided is beyond the archive's end, and follows once it is."""
    with transaction(topic, topic.topic) as others:
        others.produce(topic.topic, b"open", b"run_1", 0)
        others.flush(30)
        assert await archive_topic(topic, folder) == []
        others.commit_transaction(30)
    async with asyncio.timeout(30):
        while not await archive_topic(topic, folder):  # noqa: ASYNC110 - Kafka tells nobody
            await asyncio.sleep(0.01)
    assert [each.value for each in await archived(folder)] == [b"open"]


@pytest.fixture
async def served(topic, opened, tmp_path):
    """A topic of 3,000 events, folded into a store."""
    sink = await opened.sink(topic)
    await sink.append(messages(traffic(3_000)))
    settings = settings_of(tmp_path)
    store = wiring.open_store(settings, make_folder=True)
    await serve(settings, source_of(topic), store, until_end=True, stop=asyncio.Event())
    store = wiring.open_store(settings)
    await store.open(write=False)
    yield settings, store
    await store.close()


async def test_archive_and_tail_prove_a_store(served, topic, folder, admin, tmp_path):
    """Retention has eaten all but the tail: verify over archive and tail gives what it gave over the whole topic."""
    settings, store = served
    async with started(source_of(topic)) as source:
        expected = await verify(source, store, settings.rules, workspace=tmp_path)
        ends = {which: held.end for which, held in (await source.ranges(PARTITIONS)).items()}
    await archive_topic(topic, folder)
    forget(admin, topic, {which: end - 5 for which, end in ends.items()})
    for side in (ArchiveSource(folder), whole_of(topic, folder)):
        async with started(side) as source:
            assert await verify(source, store, settings.rules, workspace=tmp_path) == expected
    assert expected.identical
    assert expected.unverifiable == 0


async def test_history_reaches_into_the_archive(served, topic, folder, admin):
    """A run whose records the topic has forgotten in part is told whole."""
    settings, store = served
    run_id = traffic(1)[0].run_id
    async with started(source_of(topic)) as source:
        expected = await history(source, store, settings.rules, run_id)
        ends = {which: held.end for which, held in (await source.ranges(PARTITIONS)).items()}
    await archive_topic(topic, folder)
    forget(admin, topic, {which: end - 5 for which, end in ends.items()})
    async with started(whole_of(topic, folder)) as source:
        assert await history(source, store, settings.rules, run_id) == expected
    assert len(expected) >= 3


async def test_a_topic_that_forgets_under_a_reader(served, topic, folder, admin):
    """Assigned at its begin, a reader is given every record though retention deletes what is to be read next."""
    async with started(source_of(topic)) as live:
        expected = await content(live)
    await archive_topic(topic, folder)
    found = defaultdict(list)
    async with started(whole_of(topic, folder)) as source:
        source.assign(dict.fromkeys(PARTITIONS, 0))
        ends = {which: held.end for which, held in (await source.ranges(PARTITIONS)).items()}
        forget(admin, topic, {which: end // 2 for which, end in ends.items()})
        async with asyncio.timeout(60):
            while any(source.position(which) < end for which, end in ends.items()):
                batch = await source.fetch(most_records=500, most_bytes=10**7, wait=1)
                for which, records in batch.items():
                    found[which] += records
    assert [plain(found[which]) for which in PARTITIONS] == expected


async def test_a_gap_between_archive_and_topic_is_refused(served, topic, folder, admin, opened):
    """Offsets that the topic has forgotten before they were archived are named."""
    await archive_topic(topic, folder)
    reached = (await (await opened.source(topic)).ranges(PARTITIONS))[0].end
    await (await opened.sink(topic)).append(messages(traffic(500, seed=8)))
    forget(admin, topic, {0: reached + 10})
    with pytest.raises(LogError, match=rf"offsets {reached} to {reached + 9} are in neither"):
        async with started(whole_of(topic, folder)):
            pass
    with pytest.raises(LogError, match=rf"offsets {reached} to {reached + 9} are in neither"):
        await archive_topic(topic, folder)


async def test_a_topic_made_anew_is_not_archived_into_it(served, topic, folder, make_topic):
    """Another topic, though of the same cluster, is another log."""
    await archive_topic(topic, folder)
    with pytest.raises(LogError, match=f"of the log {topic.topic}"):
        await archive_topic(make_topic(), folder)


# Restoring


@pytest.fixture
def new_topic(kafka, admin):
    """The address of a topic that is not there yet."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield Address(kafka, name)
    for done in admin.delete_topics([name]).values():
        done.exception()


async def restore_into(address, folder, *, resume=False):
    async with started(ArchiveSource(folder)) as archive:
        target = KafkaRestorer(address, KafkaOptions())
        return await restore(archive, target, lambda: source_of(address), resume=resume)


async def test_a_topic_is_made_and_filled(topic, folder, new_topic, admin):
    """Partition, order, content and old timestamps are kept; offsets count anew, and the report says so."""
    old = wall_clock() - 400 * DAY
    with producer(topic) as made:
        for number in range(700):
            headers = [("n", b"%d" % number)] if number % 3 == 0 else []
            made.produce(
                topic.topic, b"%d" % number, b"run_%d" % number, number % 3, timestamp=old + number, headers=headers
            )
        made.produce(topic.topic, None, None, 2, timestamp=old)
    forget(admin, topic, {1: 100})
    await archive_topic(topic, folder)
    told = await restore_into(new_topic, folder)
    async with started(ArchiveSource(folder)) as archive, started(source_of(new_topic)) as source:
        expected, found = await content(archive), await content(source)
    assert [[each[1:] for each in records] for records in found] == [
        [each[1:] for each in records] for records in expected
    ]
    assert told.partitions[1].archived.begin == 100
    assert told.partitions[1].restored == Range(0, told.partitions[1].records)
    assert "was made; it keeps all records" in told.remarks[0]


async def test_a_restore_into_a_topic_is_resumed(served, topic, folder, new_topic):
    """A topic that has the archive's first records gets the rest."""
    await archive_topic(topic, folder)
    writing = KafkaRestorer(new_topic, KafkaOptions())
    await writing.prepare(partitions=4, oldest=0)
    await writing.start()
    await writing.write(0, (await archived(folder))[:123])
    await writing.close()
    with pytest.raises(LogError, match="not empty: partition 0 has offsets up to 122"):
        await restore_into(new_topic, folder)
    told = await restore_into(new_topic, folder, resume=True)
    assert [each.found for each in told.partitions] == [123, 0, 0, 0]
    async with started(source_of(new_topic)) as source:
        assert [len(records) for records in await content(source)] == [each.records for each in told.partitions]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"retention_ms": str(7 * DAY)}, "deletes records after 7 days .* oldest is .* days old: it would be gone"),
        ({"cleanup_policy": "compact"}, "is compacted"),
        ({"message_timestamp_before_max_ms": str(DAY)}, "takes no records older than 1 days"),
    ],
)
async def test_a_topic_that_would_lose_old_records_is_refused(topic, folder, make_topic, settings, told):
    """A topic whose settings delete or refuse records for their old timestamps is not written into."""
    with producer(topic) as made:
        made.produce(topic.topic, b"1", b"run_1", 0, timestamp=wall_clock() - 30 * DAY)
    await archive_topic(topic, folder)
    target = make_topic(4, **settings)
    with pytest.raises(LogError, match=told):
        await restore_into(target, folder)
    async with started(source_of(target)) as source:
        assert await content(source) == [[], [], [], []]


async def test_a_topic_that_stamps_records_itself(topic, folder, make_topic):
    """It is written into, and people are told that the timestamps are new."""
    with producer(topic) as made:
        made.produce(topic.topic, b"1", b"run_1", 0, timestamp=wall_clock() - 30 * DAY)
    await archive_topic(topic, folder)
    target = make_topic(4, message_timestamp_type="LogAppendTime", retention_ms=str(7 * DAY))
    told = await restore_into(target, folder)
    assert "stamps records itself" in told.remarks[0]
    assert "after 7 days" in told.remarks[1]
    async with started(source_of(target)) as source:
        assert (await source.record_at(0, 0)).timestamp > wall_clock() - DAY


async def test_a_topic_of_other_partitions_is_refused(topic, folder, make_topic):
    """What is published later would go elsewhere than the runs it belongs to."""
    await archive_topic(topic, folder)
    with pytest.raises(LogError, match="has 3 partitions, and the archive has 4"):
        await restore_into(make_topic(3), folder)


async def test_below_the_archives_begin(topic, folder, admin):
    """What neither archive nor topic has is lost, as in any log."""
    with producer(topic) as made:
        for number in range(20):
            made.produce(topic.topic, b"%d" % number, b"run_1", 0)
    forget(admin, topic, {0: 5})
    await archive_topic(topic, folder)
    forget(admin, topic, {0: 10})
    async with started(whole_of(topic, folder)) as source:
        with pytest.raises(RangeLost, match="offsets 4 to 4 are gone"):
            await read_all(source, begin=4)
