"""What the tests of Kafka share beside ``tests/support/kafka_fixtures.py``."""

from __future__ import annotations

import asyncio
import os
import subprocess

import kafka_broker
import pytest
from confluent_kafka.admin import AdminClient
from kafka_fixtures import skip_without_kafka_tools
from kafka_jars import class_path

PATIENCE = 30


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    """No setting of whoever runs the tests gets into them."""
    for name in [name for name in os.environ if name.startswith("RUNFOLD_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def admin(kafka):
    """Kafka's administration, to do to topics what operators do."""
    return AdminClient({"bootstrap.servers": kafka, "log_level": 0})


@pytest.fixture
def read_to():
    """Reads what is assigned until a position, and returns all records by partition."""

    async def read(source, positions, *, most_records=1_000, most_bytes=10_000_000):
        found: dict[int, list] = {which: [] for which in positions}
        async with asyncio.timeout(PATIENCE):
            while any(source.position(which) < position for which, position in positions.items()):
                batch = await source.fetch(most_records=most_records, most_bytes=most_bytes, wait=1)
                for which, records in batch.items():
                    found[which] += records
        return found

    return read


@pytest.fixture
def eventually():
    """Waits until an awaitable condition holds, and returns what it gave."""

    async def wait(condition):
        async with asyncio.timeout(PATIENCE):
            while not (found := await condition()):  # noqa: ASYNC110 - Kafka tells nobody
                await asyncio.sleep(0.05)
        return found

    return wait


class KafkaTools:
    """Kafka's own command line tools, run from the jars."""

    def __init__(self, servers: str, folder) -> None:
        self._servers, self._folder = servers, folder

    def run(self, main: str, *arguments: str, given: str | None = None) -> str:
        (self._folder / "log4j2.properties").write_text("rootLogger.level = off\n")
        command = kafka_broker.java(class_path(), self._folder, main, *arguments, heap="128m")
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=90, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def console_producer(self, topic, lines: list[str]) -> None:
        """Write ``key<TAB>value`` lines."""
        self.run(
            "org.apache.kafka.tools.ConsoleProducer",
            *("--bootstrap-server", self._servers, "--topic", topic.topic),
            *("--property", "parse.key=true"),
            given="\n".join(lines) + "\n",
        )

    def lag(self, group: str) -> dict[int, tuple[int, int, int]]:
        """Position, end and lag of each partition that the group has committed."""
        told = self.run(
            "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
            *("--bootstrap-server", self._servers, "--describe", "--group", group),
        )
        rows = [line.split() for line in told.splitlines() if line.startswith(group)]
        return {int(row[2]): (int(row[3]), int(row[4]), int(row[5])) for row in rows}


@pytest.fixture
def kafka_tools(kafka, tmp_path):
    """Kafka's own tools, which need java and the jars also where another Kafka is used."""
    skip_without_kafka_tools()
    return KafkaTools(kafka, tmp_path)
