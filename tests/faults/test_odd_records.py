"""Records as others write them, of every odd kind at once, and what transactions leave behind: each is right in any store."""

from __future__ import annotations

import asyncio

import pytest
from fire_topics import log_of, looked_at
from kafka_producers import producer, transaction
from under_fire import assert_same

from runfold.log.clock import wall_clock
from runfold_schemas import RunCreated, encode

LARGEST = 1_000_000
pytestmark = pytest.mark.usefixtures("collector")


def created(run_id="run_1", *, size=0):
    """A run's first event; of exactly so many bytes, if a size is given."""
    event = RunCreated(run_id=run_id, thread_id="t", id="1", occurred_at=1_760_000_000_000, instructions="x" * 70_000)
    missing = size - len(encode(event))
    if not size:
        missing = 1 - 70_000
    event = RunCreated(
        run_id=run_id, thread_id="t", id="1", occurred_at=1_760_000_000_000, instructions="x" * (70_000 + missing)
    )
    return encode(event)


ODD = (
    (None, created("run_1")),
    (b"run_1", None),
    (b"run_2", created("run_1")),
    (b"run_1", b"\xff"),
    (b"run_3", created("run_3", size=LARGEST)),
    (b"run_4", created("run_4", size=LARGEST + 1)),
    (b"run_1", created("run_1")),
)


def write(topic, records, **settings):
    with producer(topic, message_max_bytes=1_048_588, **settings) as others:
        for key, value in records:
            others.produce(topic.topic, value, key, 0, headers=[("trace", b"1"), ("empty", None)])


def write_in_transactions(topic):
    """One that commits, and one that aborts: marks of both stand in the log, and records that nobody is given."""
    with transaction(topic, topic.topic) as others:
        others.produce(topic.topic, created("run_5"), b"run_5", 0)
        others.commit_transaction(30)
        others.begin_transaction()
        others.produce(topic.topic, created("run_6"), b"run_6", 0)
        others.flush(30)
        others.abort_transaction(30)


async def test_each_odd_record_is_right(topic, store_url, light):
    """No key, no value, another's key, garbage, the largest, one byte more, headers, a transaction kept and one aborted."""
    assert len(created("run_3", size=LARGEST)) == LARGEST
    await asyncio.to_thread(write, topic, ODD)
    await asyncio.to_thread(write_in_transactions, topic)
    fleet = await light(log_of(topic), store_url)
    await fleet.until_end()
    found = await fleet.status()
    assert found.dead_letters == {"key_mismatch": 2, "malformed": 2, "too_large": 1}
    assert (found.runs["queued"], found.healthy) == (3, True)
    assert_same(await fleet.held(), (await looked_at(topic)).quiet)


async def test_a_hanging_transaction(topic, store_url, light):
    """What an open transaction blocks is named in status; when it ends, all that stood behind it is folded."""
    await asyncio.to_thread(write, topic, [(b"run_1", created("run_1"))])
    fleet = await light(log_of(topic), store_url)
    fleet.fill()
    with transaction(topic, topic.topic) as others:
        others.produce(topic.topic, created("run_2"), b"run_2", 0, timestamp=wall_clock() - 90_000)
        others.flush(30)
        await asyncio.to_thread(write, topic, [(b"run_3", created("run_3"))])
        await fleet.reached(1)
        blocked = await fleet.status()
        others.abort_transaction(30)
    assert (blocked.runs["queued"], blocked.partitions[0].held_back, blocked.healthy) == (1, 2, False)
    assert "blocked by an open transaction" in blocked.unhealthy[0]
    await fleet.reached(4)
    assert (await fleet.status()).runs["queued"] == 2
