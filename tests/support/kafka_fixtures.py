"""A real Kafka for tests: one cluster for the whole run, shared by its processes, and topics that are gone with their test.

In this order: what KAFKA_BOOTSTRAP_SERVERS names; a broker of ``deploy/kafka``, where java and mvn are on the path or can be
installed from Debian; else the tests are skipped, and fail where CI=true.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from debian import program
from kafka_cluster import Cluster
from kafka_jars import NoKafka, missing_tools

from runfold.log.kafka import KafkaSource
from runfold.log.kafka_options import Address, KafkaOptions, address_of
from runfold.log.kafka_publish import KafkaSink

MakeTopic = Callable[..., Address]


def skip_without_kafka_tools() -> None:
    """Skip the test, or fail it where CI=true, if no broker can be started here, and what it needs cannot be installed."""
    for tool in missing_tools():
        program(tool, "default-jre-headless", "maven")
    if missing := missing_tools():
        reason = f"no Kafka: {' and '.join(missing)} missing, and KAFKA_BOOTSTRAP_SERVERS is not set"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap servers of a Kafka that all tests share; nobody may hurt it."""
    if servers := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield servers
        return
    skip_without_kafka_tools()
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    try:
        cluster = Cluster.join(shared / "kafka")
    except NoKafka as error:
        pytest.fail(str(error))
    with cluster:
        await_coordinator(cluster.bootstrap_servers)
        yield cluster.bootstrap_servers


def await_coordinator(servers: str) -> None:
    """Wait until groups can commit: Kafka makes their topic when the first one asks."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "first", "log_level": 0})
    deadline = time.monotonic() + 60
    try:
        while True:
            try:
                consumer.committed([TopicPartition("none", 0)], timeout=5)
            except KafkaException:
                assert time.monotonic() < deadline, "no group coordinator"
            else:
                return
    finally:
        consumer.close()


@pytest.fixture
def make_topic(kafka: str) -> Iterator[MakeTopic]:
    """Makes topics with the settings that a test wants; retention is off unless it says otherwise."""
    admin = AdminClient({"bootstrap.servers": kafka, "log_level": 0})
    made = []

    def make(partitions: int = 4, **settings: str) -> Address:
        name = f"test-{uuid.uuid4().hex[:12]}"
        create_topic(admin, name, partitions=partitions, **settings)
        made.append(name)
        return address_of(f"kafka://{kafka}/{name}")

    yield make
    for future in admin.delete_topics(made).values() if made else ():
        future.exception()  # a test may have deleted it


def create_topic(admin: AdminClient, name: str, *, partitions: int, replicas: int = 1, **settings: str) -> None:
    """Make a topic, and wait until it can be used; settings have underscores for dots."""
    wanted = {"retention.ms": "-1"} | {key.replace("_", "."): value for key, value in settings.items()}
    for future in admin.create_topics([NewTopic(name, partitions, replicas, config=wanted)]).values():
        future.result(30)
    deadline = time.monotonic() + 30
    while len(served := admin.list_topics(name, 10).topics[name].partitions) < partitions or any(
        each.leader < 0 for each in served.values()
    ):
        assert time.monotonic() < deadline, f"{name} is not served"
        time.sleep(0.01)


@pytest.fixture
def topic(make_topic: MakeTopic) -> Address:
    """A topic of four partitions."""
    return make_topic()


@pytest.fixture
async def opened(kafka: str) -> AsyncIterator[Opened]:
    """Opens sources and sinks, and closes them with the test."""
    async with AsyncExitStack() as stack:
        yield Opened(stack)


class Opened:
    """Sources and sinks of any topic, started, with options of the test's choice."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def source(self, address: Address, **options: object) -> KafkaSource:
        source = KafkaSource(address, KafkaOptions(**options))
        self._stack.push_async_callback(source.close)
        await source.start()
        return source

    async def sink(self, address: Address, **options: object) -> KafkaSink:
        sink = KafkaSink(address, KafkaOptions(**options))
        self._stack.push_async_callback(sink.close)
        await sink.start()
        return sink


@pytest.fixture(scope="module")
def own_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster that the tests of one module may hurt; OWN_CLUSTER in the module has the arguments of its start."""
    skip_without_kafka_tools()
    with Cluster.start(**getattr(request.module, "OWN_CLUSTER", {})) as cluster:
        yield cluster
