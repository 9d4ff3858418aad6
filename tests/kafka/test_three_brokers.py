"""Three brokers with a real quorum: one of them may be lost."""

from __future__ import annotations

import asyncio
import time

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from runfold.cli.exits import run
from runfold.log.kafka_options import KafkaOptions, address_of
from runfold.log.kafka_topic import FOREVER, KafkaTopic
from runfold.log.port import LogUnreachable, Message

OWN_CLUSTER = {"brokers": 3}
QUICK = {"request_timeout_ms": 3_000, "delivery_timeout_ms": 30_000}


@pytest.fixture(autouse=True)
def admin(own_cluster):
    """Kafka's administration, once all three are in the cluster (again)."""
    admin = AdminClient({"bootstrap.servers": own_cluster.bootstrap_servers, "log_level": 0})
    deadline = time.monotonic() + 60
    while len(admin.list_topics(timeout=10).brokers) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return admin


@pytest.fixture
def topic(own_cluster, admin):
    wanted = NewTopic("run-events", 6, 3, config={"min.insync.replicas": "2", "retention.ms": "-1"})
    for done in admin.create_topics([wanted]).values():
        done.result(30)
    yield address_of(f"kafka://{own_cluster.bootstrap_servers}/run-events")
    for done in admin.delete_topics(["run-events"]).values():
        done.result(30)


def numbered(begin, end):
    return [Message(b"run_%d" % (number % 50), b"%d" % number) for number in range(begin, end)]


async def append(sink, messages):
    async with asyncio.timeout(60):
        while True:
            try:
                return await sink.append(messages)
            except LogUnreachable:
                continue


async def test_the_loss_of_one_broker_is_borne(own_cluster, topic, opened):
    """Publishing and reading go on while one of three brokers is dead; nothing acknowledged is lost."""
    sink, source = await opened.sink(topic, **QUICK), await opened.source(topic, **QUICK)
    await append(sink, numbered(0, 500))
    await asyncio.to_thread(own_cluster.kill, 2)
    try:
        await append(sink, numbered(500, 1_000))
        source.assign(dict.fromkeys(range(6), 0))
        found = set()
        async with asyncio.timeout(60):
            while len(found) < 1_000:
                try:
                    batch = await source.fetch(most_records=1_000, most_bytes=10**7, wait=0.5)
                except LogUnreachable:
                    continue
                found |= {int(record.value) for records in batch.values() for record in records}
        assert found == set(range(1_000))
    finally:
        await asyncio.to_thread(own_cluster.restart, 2)


def test_a_topic_made_beyond_one_machine_endangers_nothing(own_cluster, monkeypatch, capsys):
    """With three brokers, what create makes has nothing that check would call a danger."""
    monkeypatch.setenv("RUNFOLD_LOG", f"kafka://{own_cluster.bootstrap_servers}/made")
    assert run(["topic", "create"]) == 0
    assert run(["topic", "check"]) == 0
    assert "no setting endangers data" in capsys.readouterr().out


async def test_a_lost_broker_is_found_by_check(own_cluster, opened):
    """While a broker is down it is named, and so are the partitions that lack a copy."""
    address = address_of(f"kafka://{own_cluster.bootstrap_servers}/found")
    async with KafkaTopic(address, KafkaOptions()) as topic:
        await topic.create(partitions=12, replicas=None, retention_ms=FOREVER)
        await asyncio.to_thread(own_cluster.kill, 3)
        try:
            assert ("broker 3", "no answer") in {(each.setting, each.value) for each in await topic.check()}
            async with asyncio.timeout(60):
                while "2 of 3" not in {each.value for each in await topic.check()}:  # noqa: ASYNC110 - Kafka tells nobody
                    await asyncio.sleep(0.2)
        finally:
            await asyncio.to_thread(own_cluster.restart, 3)
