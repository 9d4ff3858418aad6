"""Producers of others, for tests: librdkafka's, with transactions, codecs and whatever a producer may set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Producer

from runfold.log.kafka_options import Address

PATIENCE = 30


@contextmanager
def producer(address: Address, **settings: Any) -> Iterator[Producer]:
    """A producer; settings have underscores for dots. What it was given is delivered when it is left."""
    made = Producer(
        {"bootstrap.servers": address.servers} | {name.replace("_", "."): of for name, of in settings.items()}
    )
    yield made
    assert made.flush(PATIENCE) == 0


def produce(
    address: Address, *values: bytes | None, partition: int = 0, key: bytes | None = b"run_1", **settings: Any
) -> None:
    """Write values to a partition, in order."""
    with producer(address, **settings) as made:
        for value in values:
            made.produce(address.topic, value, key, partition)


@contextmanager
def transaction(address: Address, name: str) -> Iterator[Producer]:
    """A producer in an open transaction, which whoever uses it has to end. Its death aborts nothing before the timeout."""
    with producer(address, transactional_id=name, transaction_timeout_ms=60_000) as made:
        made.init_transactions(PATIENCE)
        made.begin_transaction()
        yield made
