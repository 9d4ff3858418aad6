"""Reading and writing Kafka beside aiokafka's own calls, in the same run: CPU and wall clock an event, and the way to a reader.

Run it with ``python tests/bench/bench_kafka.py [--events N]``. It uses KAFKA_BOOTSTRAP_SERVERS, else starts a broker of
``deploy/kafka``. The broker's CPU is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from itertools import islice
from pathlib import Path
from random import Random

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from runfold.demo.traffic import interleaved
from runfold.log.kafka import KafkaSource
from runfold.log.kafka_options import Address, KafkaOptions
from runfold.log.kafka_publish import KafkaSink
from runfold.log.kafka_topic import FOREVER, KafkaTopic
from runfold.log.port import Message
from runfold.log.publisher import Publisher
from runfold_schemas import encode

sys.path.insert(0, str(Path(__file__).parents[2] / "deploy" / "kafka"))

PARTITIONS = 8
BATCH = 5_000
LATENCIES = 500
OPTIONS = KafkaOptions()


async def new_topic(servers: str) -> Address:
    address = Address(servers, f"bench-{uuid.uuid4().hex[:8]}")
    async with KafkaTopic(address, OPTIONS) as topic:
        await topic.create(partitions=PARTITIONS, replicas=1, retention_ms=FOREVER)
    return address


async def measured(name: str, count: int, work: Callable[[], Awaitable[object]]) -> float:
    """Run it, print what an event cost, and return the events a second."""
    wall, cpu = time.perf_counter(), time.process_time()
    await work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{name:<48} {count / wall:>10,.0f} events/s {cpu / count * 1e6:>7.2f} us CPU an event")
    return count / wall


async def send_each(address: Address, messages: list[Message]) -> None:
    """aiokafka's own way: a call and a future for each record."""
    producer = AIOKafkaProducer(
        bootstrap_servers=address.servers,
        enable_idempotence=True,
        compression_type="lz4",
        max_batch_size=OPTIONS.batch_size,
        linger_ms=5,
    )
    await producer.start()
    sent = [await producer.send(address.topic, value, key) for key, value, _ in messages]
    await asyncio.gather(*sent)
    await producer.stop()


async def append_all(address: Address, messages: list[Message]) -> None:
    sink = KafkaSink(address, OPTIONS)
    await sink.start()
    for begin in range(0, len(messages), BATCH):
        await sink.append(messages[begin : begin + BATCH])
    await sink.close()


async def publish_all(address: Address, events: list[object]) -> None:
    async with Publisher(KafkaSink(address, OPTIONS), source="bench") as publisher:
        for begin in range(0, len(events), BATCH):
            await publisher.publish_many(events[begin : begin + BATCH])


async def publish_each(address: Address, events: list[object]) -> None:
    """A call for each event, as many under way at a time as a batch has."""
    async with Publisher(KafkaSink(address, OPTIONS), source="bench") as publisher:
        for begin in range(0, len(events), BATCH):
            await asyncio.gather(*map(publisher.publish, events[begin : begin + BATCH]))


async def read_bare(address: Address, count: int) -> None:
    """The floor: aiokafka's getmany, with nothing done about it."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=address.servers,
        auto_offset_reset="none",
        max_partition_fetch_bytes=OPTIONS.max_partition_fetch_bytes,
        isolation_level="read_committed",
    )
    await consumer.start()
    places = [TopicPartition(address.topic, which) for which in range(PARTITIONS)]
    consumer.assign(places)
    for place in places:
        consumer.seek(place, 0)
    while count > 0:
        count -= sum(map(len, (await consumer.getmany(timeout_ms=500, max_records=20_000)).values()))
    await consumer.stop()


async def fetch_all(address: Address, count: int) -> None:
    source = KafkaSource(address, OPTIONS)
    await source.start()
    source.assign(dict.fromkeys(range(PARTITIONS), 0))
    while count > 0:
        batch = await source.fetch(most_records=20_000, most_bytes=32_000_000, wait=1)
        count -= sum(map(len, batch.values()))
    await source.close()


async def read_stretches(address: Address, count: int) -> None:
    source = KafkaSource(address, OPTIONS)
    await source.start()
    for which, held in (await source.ranges(range(PARTITIONS))).items():
        async for records in source.read(which, begin=0, end=held.end):
            count -= len(records)
    assert count == 0
    await source.close()


async def latencies(address: Address, message: Message) -> None:
    """From the call to the reader's hand, one record at a time."""
    sink, source = KafkaSink(address, OPTIONS), KafkaSource(address, OPTIONS)
    await sink.start()
    await source.start()
    source.assign({which: held.end for which, held in (await source.ranges(range(PARTITIONS))).items()})
    answered, read = [], []
    for _ in range(LATENCIES):
        fetching = asyncio.create_task(source.fetch(most_records=1_000, most_bytes=10**6, wait=10))
        await asyncio.sleep(0.002)
        begun = time.perf_counter()
        await sink.append([message])
        answered.append(time.perf_counter() - begun)
        await fetching
        read.append(time.perf_counter() - begun)
    await sink.close()
    await source.close()
    for name, found in (("append answered", answered), ("published to fetched", read)):
        found.sort()
        p50, p99 = (found[len(found) * share // 100] * 1000 for share in (50, 99))
        print(f"{name:<48} p50 {p50:.2f} ms, p99 {p99:.2f} ms")


async def bench(servers: str, count: int) -> None:
    events = list(islice(interleaved(5_000, Random(7)), count))
    messages = [Message(event.run_id.encode(), encode(event)) for event in events]
    print(f"{count:,} events, {sum(len(message.value) for message in messages) / count:.0f} bytes each")
    each, bulk, whole, singly = [await new_topic(servers) for _ in range(4)]
    send = await measured("aiokafka send, each its future", count, lambda: send_each(each, messages))
    append = await measured("KafkaSink.append", count, lambda: append_all(bulk, messages))
    publish = await measured("Publisher.publish_many, checked and numbered", count, lambda: publish_all(whole, events))
    single = await measured("Publisher.publish, an event a call", count, lambda: publish_each(singly, events))
    print(
        f"{'':<48} append is {append / send:.2f} x send, publish_many {publish / send:.2f} x, publish {single / send:.2f} x"
    )
    bare = await measured("aiokafka getmany, untouched", count, lambda: read_bare(bulk, count))
    fetch = await measured("KafkaSource.fetch", count, lambda: fetch_all(bulk, count))
    stretch = await measured("KafkaSource.read, partition by partition", count, lambda: read_stretches(bulk, count))
    print(f"{'':<48} fetch is {fetch / bare:.2f} x getmany, read {stretch / bare:.2f} x")
    await latencies(bulk, messages[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    given = parser.parse_args()
    if servers := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        asyncio.run(bench(servers, given.events))
        return
    from kafka_cluster import Cluster

    with Cluster.start() as cluster:
        asyncio.run(bench(cluster.bootstrap_servers, given.events))


if __name__ == "__main__":
    main()
