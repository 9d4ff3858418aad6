"""A broker that is killed, restarted or frozen under readers and writers: nothing acknowledged is lost or out of order."""

from __future__ import annotations

import asyncio
import time

import pytest
from confluent_kafka.admin import AdminClient
from kafka_fixtures import create_topic

from runfold.log.kafka_options import address_of
from runfold.log.port import LogUnreachable, Message

QUICK = {"request_timeout_ms": 3_000, "delivery_timeout_ms": 30_000}
FETCH = {"most_records": 10_000, "most_bytes": 10_000_000, "wait": 0.5}


@pytest.fixture
def topic(own_cluster, request):
    """A topic of one partition in the cluster that may be hurt."""
    name = f"test-{time.time_ns()}"
    create_topic(AdminClient({"bootstrap.servers": own_cluster.bootstrap_servers, "log_level": 0}), name, partitions=1)
    return address_of(f"kafka://{own_cluster.bootstrap_servers}/{name}")


class Writing:
    """Appends numbers one call after the other, until stopped; a call that fails is made again, as the publisher does."""

    def __init__(self, sink) -> None:
        self._sink = sink
        self.acknowledged = 0
        self.failures = 0
        self._stop = False
        self._task = asyncio.create_task(self._write())

    async def _write(self):
        while not self._stop:
            try:
                await self._sink.append([Message(b"run_1", b"%d" % self.acknowledged)])
            except LogUnreachable:
                self.failures += 1
            else:
                self.acknowledged += 1

    async def until(self, count):
        async with asyncio.timeout(60):
            while self.acknowledged < count:  # noqa: ASYNC110 - it counts and tells nobody
                await asyncio.sleep(0.01)

    async def stop(self):
        self._stop = True
        await self._task
        return self.acknowledged


async def read_all(source, end):
    """The numbers written up to an end, read as a consumer does."""
    source.assign({0: 0})
    found = []
    async with asyncio.timeout(60):
        while source.position(0) < end:
            try:
                batch = await source.fetch(**FETCH)
            except LogUnreachable:
                continue
            found += [int(record.value) for records in batch.values() for record in records]
    return found


def first_of_each(numbers):
    return list(dict.fromkeys(numbers))


async def test_a_killed_broker_costs_no_record(own_cluster, topic, opened):
    """What was acknowledged before and after a kill -9 and restart is there, each once, in order."""
    sink, source = await opened.sink(topic, **QUICK), await opened.source(topic, **QUICK)
    writing = Writing(sink)
    await writing.until(50)
    await asyncio.to_thread(own_cluster.kill)
    await asyncio.to_thread(own_cluster.restart)
    await writing.until(writing.acknowledged + 50)
    count = await writing.stop()
    end = (await source.ranges([0]))[0].end
    assert first_of_each(await read_all(source, end)) == list(range(count))


async def test_a_reader_goes_on_after_a_restart(own_cluster, topic, opened):
    """A consumer that was reading goes on by itself when the broker is back, at its position."""
    sink, source = await opened.sink(topic, **QUICK), await opened.source(topic, **QUICK)
    await sink.append([Message(b"run_1", b"%d" % number) for number in range(100)])
    assert await read_all(source, 100) == list(range(100))
    await asyncio.to_thread(own_cluster.kill)
    await asyncio.to_thread(own_cluster.restart)
    await sink.append([Message(b"run_1", b"100")])
    found = []
    async with asyncio.timeout(60):
        while not found:
            try:
                found = [record.value for records in (await source.fetch(**FETCH)).values() for record in records]
            except LogUnreachable:
                continue
    assert (found, source.position(0)) == ([b"100"], 101)


async def test_a_frozen_broker_ends_an_append_in_time(own_cluster, topic, opened):
    """When Kafka does not answer, append gives up at its timeout; what is appended later stands behind, in order."""
    sink = await opened.sink(topic, request_timeout_ms=2_000, delivery_timeout_ms=2_000)
    source = await opened.source(topic, request_timeout_ms=20_000)
    await sink.append([Message(b"run_1", b"0")])
    own_cluster.freeze()
    try:
        began = time.monotonic()
        with pytest.raises(LogUnreachable, match="RUNFOLD_KAFKA_DELIVERY_TIMEOUT_MS"):
            await sink.append([Message(b"run_1", b"1")])
        assert time.monotonic() - began < 6
    finally:
        own_cluster.thaw()
    (place,) = await retried(lambda: sink.append([Message(b"run_1", b"1"), Message(b"run_1", b"2")][:1]))
    await sink.append([Message(b"run_1", b"2")])
    end = (await source.ranges([0]))[0].end
    assert place.offset >= 1
    assert first_of_each(await read_all(source, end)) == [0, 1, 2]


async def retried(call):
    async with asyncio.timeout(30):
        while True:
            try:
                return await call()
            except LogUnreachable:
                await asyncio.sleep(0.1)


async def test_closing_does_not_wait_for_a_frozen_broker(own_cluster, topic, opened):
    """Source and sink close within seconds whatever Kafka does."""
    sink, source = await opened.sink(topic), await opened.source(topic)
    source.assign({0: 0})
    source.tell_progress({0: 0})
    own_cluster.freeze()
    try:
        began = time.monotonic()
        await sink.close()
        await source.close()
        assert time.monotonic() - began < 5
    finally:
        own_cluster.thaw()


async def test_starting_without_kafka_is_unreachable_soon(own_cluster, topic, opened):
    """A broker that is down is told at once, and starting works when it is back."""
    own_cluster.kill()
    try:
        async with asyncio.timeout(10):
            with pytest.raises(LogUnreachable):
                await opened.source(topic)
    finally:
        await asyncio.to_thread(own_cluster.restart)
    assert await (await opened.source(topic)).partitions() == 1
