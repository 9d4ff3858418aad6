"""What every log does, whichever it is: one suite over all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from log_contract import ALL, PARTITIONS, ArchiveFactory, KafkaFactory, SqliteFactory, WholeFactory

from runfold import wiring
from runfold.log.partitioner import key_hash
from runfold.log.port import LogSink, LogSource, Message, Place, Range

PATIENCE = 30
LIMITS = {"most_records": 1_000, "most_bytes": 1_000_000}


@pytest.fixture
def sqlite_log(tmp_path):
    return SqliteFactory(tmp_path / "runfold.log.db")


@pytest.fixture
def kafka_log(make_topic):
    return KafkaFactory(make_topic(PARTITIONS))


@pytest.fixture
def archive_log(tmp_path):
    return ArchiveFactory(tmp_path / "runfold.log.db")


@pytest.fixture
def whole_log(tmp_path):
    return WholeFactory(tmp_path / "runfold.log.db")


@pytest.fixture(params=[*wiring.LOGS, "whole"])
def log_factory(request):
    """Of every log that can be chosen: one that has no fixture here fails. And of a log with its archive behind it."""
    return request.getfixturevalue(f"{request.param}_log")


@pytest.fixture
async def log(log_factory) -> AsyncIterator[tuple[LogSink, LogSource]]:
    async with AsyncExitStack() as stack:
        sink, source = log_factory.sink(), log_factory.source()
        for side in (sink, source):
            await side.start()
            stack.push_async_callback(side.close)
        yield sink, source


def message(number: int, *, run: int | None = None) -> Message:
    return Message(f"run_{number if run is None else run}".encode(), b"value %d" % number)


async def fetch_all(source: LogSource, *partitions: int, **limits: int) -> dict[int, list]:
    """Fetch until the ends of what was assigned, which a log beyond this process takes a moment to bring."""
    found: dict[int, list] = {}
    ends = await source.ranges(partitions)
    async with asyncio.timeout(PATIENCE):
        while any(source.position(which) < ends[which].end for which in partitions):
            for partition, records in (await source.fetch(**(LIMITS | limits), wait=1)).items():
                found.setdefault(partition, []).extend(records)
    return found


async def fetch_some(source: LogSource, **limits: int) -> dict[int, list]:
    """The first batch that comes."""
    async with asyncio.timeout(PATIENCE):
        while not (batch := await source.fetch(**(LIMITS | limits), wait=1)):
            pass
    return batch


async def test_a_new_log_is_empty(log):
    """A new log has its partitions, each from 0 to 0."""
    _, source = log
    assert await source.partitions() == PARTITIONS
    assert await source.ranges(range(PARTITIONS)) == dict.fromkeys(range(PARTITIONS), Range(0, 0))


async def test_append_answers_with_places_in_order(log):
    """Append returns, in the order of the messages, where each one stands."""
    sink, source = log
    messages = [message(number) for number in range(20)]
    places = await sink.append(messages)
    found = [await source.record_at(*place) for place in places]
    assert [(record.key, record.value) for record in found] == [(sent.key, sent.value) for sent in messages]


async def test_a_key_decides_the_partition_as_in_kafka(log):
    """A key's partition is the hash of Kafka's default partitioner, modulo the number of partitions."""
    sink, _ = log
    keys = [f"run_{number}".encode() for number in range(50)]
    places = await sink.append([Message(key, b"") for key in keys])
    assert [place.partition for place in places] == [key_hash(key) % PARTITIONS for key in keys]


async def test_offsets_count_from_zero_without_holes(log):
    """The offsets of a partition are 0, 1, 2 and so on, over any number of appends."""
    sink, _ = log
    places = [place for _ in range(5) for place in await sink.append([message(n, run=1) for n in range(3)])]
    assert [place.offset for place in places] == list(range(15))


async def test_appending_nothing_is_answered_with_nothing(log):
    """An append of no messages writes nothing and returns no places."""
    sink, _ = log
    assert await sink.append([]) == []


async def test_a_record_comes_back_whole(log):
    """Offset, timestamp, key, value and headers are read as they were written."""
    sink, source = log
    headers = (("trace", b"\x00\x01"), ("trace", b""), ("trace", None))
    (place,) = await sink.append([Message(b"run_1", b"\x81\xff", headers)])
    record = await source.record_at(*place)
    assert (record.offset, record.key, record.value) == (0, b"run_1", b"\x81\xff")
    assert [tuple(header) for header in record.headers] == list(headers)


async def test_a_record_without_headers_has_an_empty_sequence(log):
    """Headers that nobody wrote are read as an empty sequence, also beside records that have some."""
    sink, source = log
    await sink.append([Message(b"a", b"1"), Message(b"a", b"2", (("h", b"x"),)), Message(b"a", b"3")])
    source.assign({key_hash(b"a") % PARTITIONS: 0})
    (records,) = (await fetch_all(source, key_hash(b"a") % PARTITIONS)).values()
    assert [len(record.headers) for record in records] == [0, 1, 0]


async def test_there_is_no_record_beyond_the_end(log):
    """A record that is not there yet is None."""
    _, source = log
    assert await source.record_at(0, 0) is None


async def test_timestamps_are_the_time_of_appending(log, log_factory):
    """A record is stamped with the clock's time at the append."""
    sink, source = log
    (place,) = await sink.append([message(1)])
    assert (await source.record_at(*place)).timestamp == log_factory.now


async def test_timestamps_never_go_back(log, log_factory):
    """When the clock goes back, a partition's timestamps stay where they were."""
    sink, source = log
    await sink.append([message(1, run=1)])
    latest = log_factory.now
    log_factory.now -= 60_000
    (place,) = await sink.append([message(2, run=1)])
    assert (await source.record_at(*place)).timestamp == latest


async def test_fetch_gives_everything_in_order(log):
    """Fetching from 0 gives every record of the assigned partitions once, in order."""
    sink, source = log
    places = await sink.append([message(number) for number in range(500)])
    source.assign(dict.fromkeys(range(PARTITIONS), 0))
    found = await fetch_all(source, *ALL, most_records=37)
    assert sorted(Place(which, record.offset) for which, records in found.items() for record in records) == sorted(
        places
    )
    assert all(records == sorted(records, key=lambda record: record.offset) for records in found.values())


async def test_fetch_reads_only_what_is_assigned(log):
    """A partition that is not assigned is not read."""
    sink, source = log
    await sink.append([message(number) for number in range(100)])
    source.assign({2: 0})
    assert set(await fetch_all(source, 2)) == {2}


async def test_fetch_moves_the_position(log):
    """After a fetch the position is the next offset to read."""
    sink, source = log
    await sink.append([message(number, run=1) for number in range(10)])
    which = key_hash(b"run_1") % PARTITIONS
    source.assign({which: 4})
    (records,) = (await fetch_some(source, most_records=3)).values()
    assert ([record.offset for record in records], source.position(which)) == ([4, 5, 6], 7)


async def test_fetch_honours_most_records(log):
    """A fetch gives at most ``most_records`` over all partitions together."""
    sink, source = log
    await sink.append([message(number) for number in range(100)])
    source.assign(dict.fromkeys(range(PARTITIONS), 0))
    assert sum(map(len, (await fetch_some(source, most_records=10)).values())) == 10


async def test_fetch_honours_most_bytes(log):
    """The values of a fetch take at most ``most_bytes``."""
    sink, source = log
    await sink.append([Message(f"run_{number}".encode(), bytes(1_000)) for number in range(200)])
    source.assign(dict.fromkeys(range(PARTITIONS), 0))
    batch = await fetch_some(source, most_bytes=50_000)
    assert 30_000 <= sum(len(record.value) for records in batch.values() for record in records) <= 50_000


async def test_one_record_is_always_given(log):
    """A record above ``most_bytes`` is given alone, so that nothing can block a partition."""
    sink, source = log
    await sink.append([Message(b"run_1", bytes(5_000)), Message(b"run_1", b"")])
    source.assign({key_hash(b"run_1") % PARTITIONS: 0})
    batch = await fetch_some(source, most_bytes=100)
    assert [len(record.value) for records in batch.values() for record in records] == [5_000]


async def test_no_partition_starves(log):
    """With room for one record a fetch, all partitions are served in turn."""
    sink, source = log
    await sink.append([message(number) for number in range(400)])
    source.assign(dict.fromkeys(range(PARTITIONS), 0))
    served = [next(iter(await fetch_some(source, most_records=1))) for _ in range(PARTITIONS)]
    assert sorted(served) == list(range(PARTITIONS))


async def test_a_busy_partition_may_fill_what_others_leave(log):
    """What idle partitions leave of a batch goes to the busy one."""
    sink, source = log
    await sink.append([message(number, run=1) for number in range(100)])
    source.assign(dict.fromkeys(range(PARTITIONS), 0))
    assert sum(map(len, (await fetch_some(source, most_records=100)).values())) == 100


async def test_fetch_is_empty_when_nothing_comes(log):
    """At the end of the log a fetch waits its time and gives nothing."""
    _, source = log
    source.assign({0: 0})
    assert await source.fetch(most_records=1, most_bytes=1, wait=0.01) == {}


async def test_a_waiting_fetch_is_woken_by_an_append(log):
    """A fetch that waits returns as soon as something is appended, long before its time is up."""
    sink, source = log
    source.assign(dict.fromkeys(range(PARTITIONS), 0))
    waiting = asyncio.create_task(source.fetch(most_records=10, most_bytes=10**6, wait=60))
    await asyncio.sleep(0)
    await sink.append([message(1)])
    async with asyncio.timeout(10):
        assert len(await waiting) == 1


async def test_a_cancelled_fetch_moves_nothing(log):
    """Cancelling a fetch leaves the position where it was, and the source usable."""
    sink, source = log
    source.assign(dict.fromkeys(range(PARTITIONS), 0))
    waiting = asyncio.create_task(source.fetch(most_records=10, most_bytes=10**6, wait=60))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await sink.append([message(1)])
    assert len(await fetch_all(source, *ALL)) == 1


async def test_assigning_anew_forgets_the_former_positions(log):
    """An assignment replaces all positions."""
    sink, source = log
    await sink.append([message(number) for number in range(50)])
    source.assign(dict.fromkeys(range(PARTITIONS), 0))
    await fetch_all(source, *ALL)
    source.assign({1: 0})
    assert set(await fetch_all(source, 1)) == {1}


async def test_a_batch_of_a_former_assignment_is_dropped(log):
    """Records that were asked for before the assignment changed are not given any more."""
    sink, source = log
    await sink.append([message(number, run=1) for number in range(10)])
    which = key_hash(b"run_1") % PARTITIONS
    source.assign({which: 0})
    fetching = asyncio.create_task(source.fetch(most_records=100, most_bytes=10**6, wait=0))
    await asyncio.sleep(0)
    source.assign({which: 7})
    await fetching
    assert source.position(which) in (7, 10)


async def test_ranges_grow_with_the_log(log):
    """The end is the offset the next record gets."""
    sink, source = log
    (*_, last) = await sink.append([message(number, run=1) for number in range(7)])
    assert (await source.ranges([last.partition]))[last.partition] == Range(0, 7)


async def test_an_offset_is_found_by_time(log, log_factory):
    """The offset for a time is the first record stamped at or after it, else the end."""
    sink, source = log
    begun = log_factory.now
    for number in range(10):
        log_factory.now = begun + 100 * number
        (place,) = await sink.append([message(number, run=1)])
    which = place.partition
    asked = {begun - 1: 0, begun: 0, begun + 1: 1, begun + 500: 5, begun + 900: 9, begun + 901: 10}
    assert {time: (await source.offsets_for_time([which], time))[which] for time in asked} == asked


async def test_a_stretch_is_read_whatever_is_assigned(log):
    """Read gives the records of a stretch, its end excluded, without an assignment."""
    sink, source = log
    await sink.append([message(number, run=1) for number in range(10)])
    which = key_hash(b"run_1") % PARTITIONS
    offsets = [record.offset async for records in source.read(which, begin=3, end=8) for record in records]
    assert offsets == [3, 4, 5, 6, 7]


async def test_a_stretch_is_read_in_lists_of_bounded_size(log, monkeypatch):
    """A long stretch comes in more than one list, in order and complete. An archive gives its groups of rows."""
    monkeypatch.setattr("runfold.log.archive_writer.GROUP_RECORDS", 2_000)
    sink, source = log
    await sink.append([message(number, run=1) for number in range(5_000)])
    lists = [records async for records in source.read(key_hash(b"run_1") % PARTITIONS, begin=0, end=5_000)]
    assert len(lists) > 1
    assert [record.offset for records in lists for record in records] == list(range(5_000))


async def test_a_stretch_can_be_read_for_one_key(log):
    """With a key, read gives that key's records only."""
    sink, source = log
    await sink.append([message(number) for number in range(200)])
    which = key_hash(b"run_7") % PARTITIONS
    end = (await source.ranges([which]))[which].end
    found = [record async for records in source.read(which, begin=0, end=end, key=b"run_7") for record in records]
    assert [(record.key, record.value) for record in found] == [(b"run_7", b"value 7")]


async def test_reading_stops_at_the_end_of_the_log(log):
    """A stretch beyond the log's end gives what there is."""
    sink, source = log
    (place,) = await sink.append([message(1)])
    lists = [records async for records in source.read(place.partition, begin=0, end=10**12)]
    assert [record.offset for records in lists for record in records] == [0]


async def test_all_views_name_the_same_log(log, log_factory):
    """Two sources of one log see the same identity."""
    _, source = log
    other = log_factory.source()
    await other.start()
    try:
        assert await other.identity() == await source.identity()
    finally:
        await other.close()


async def test_what_was_appended_is_there_after_closing(log_factory):
    """A record outlives the sink that wrote it."""
    sink, source = log_factory.sink(), log_factory.source()
    await sink.start()
    (place,) = await sink.append([message(1)])
    await sink.close()
    await source.start()
    try:
        assert (await source.record_at(*place)).value == b"value 1"
    finally:
        await source.close()


async def test_closing_twice_is_closing_once(log_factory):
    """A second close does nothing."""
    sink = log_factory.sink()
    await sink.start()
    await sink.close()
    await sink.close()


async def test_two_sinks_share_a_log(log, log_factory):
    """Appends of two sinks stand in one order, without holes."""
    sink, _ = log
    other = log_factory.sink()
    await other.start()
    try:
        batches = [side.append([message(number, run=1)]) for number, side in enumerate([sink, other] * 10)]
        places = await asyncio.gather(*batches)
    finally:
        await other.close()
    assert sorted(place.offset for (place,) in places) == list(range(20))
