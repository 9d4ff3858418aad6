"""Health and metrics of a service on Kafka and PostgreSQL: figures add up, and an open transaction is named, not blamed."""

from __future__ import annotations

from collections import Counter

import pytest
from kafka_producers import produce, transaction
from probing import LISTEN, Probe, code
from serving import messages, server, settings_of, traffic

from runfold import wiring
from runfold_schemas import RunCreated, encode

pytestmark = pytest.mark.usefixtures("collector")


def log_of(topic):
    return f"kafka://{topic.servers}/{topic.topic}"


async def probe_of(service):
    return Probe((await service.said("health_listening"))["address"])


def created(run_id="run_1"):
    return encode(RunCreated(run_id=run_id, thread_id="t", id="1", occurred_at=1_760_000_000_000))


async def test_figures_on_kafka_and_postgresql_are_those_of_the_store(topic, opened, tmp_path, postgres_url):
    """Events by outcome are the store's tallies, positions its positions, and nothing is behind."""
    written = messages(traffic(2_000))
    await (await opened.sink(topic)).append([*written, *written[:50]])
    environment = {"log": log_of(topic), "store": postgres_url, "batch_records": 300}
    async with server(tmp_path, **LISTEN, **environment) as service:
        await service.start()
        probe = await probe_of(service)
        await probe.until("/readyz", code(200))
        found = await probe.metrics()
        assert await service.stop() == 0
    store = wiring.open_store(settings_of(tmp_path, **environment))
    await store.open(write=False)
    standing = await store.partitions()
    await store.close()
    tally = Counter()
    for known in standing:
        tally.update(known.tally)
    assert sum(tally.values()) == 2_050
    assert {outcome: count for (outcome,), count in found.all("events_total").items() if count} == tally
    assert found.all("position") == {(str(known.partition),): known.position for known in standing}
    assert set(found.all("lag_records").values()) == {0}


async def test_an_open_transaction_is_named_and_stuck_is_nobody(topic, tmp_path):
    """Records behind an open transaction are blocked: told in metrics and as a note, while the service stays well."""
    produce(topic, created())
    async with server(tmp_path, **LISTEN, log=log_of(topic), stuck=1) as service:
        await service.start()
        probe = await probe_of(service)
        await service.said("batch_committed")
        with transaction(topic, topic.topic) as others:
            others.produce(topic.topic, created(), b"run_1", 0)
            others.flush(30)
            noted = await probe.until(
                "/readyz", lambda reply: reply.json["notes"] and reply.json["notes"][0]["seconds"] > 3
            )
            found = await probe.metrics()
            others.abort_transaction(30)
        free = await probe.until("/readyz", lambda reply: reply.json["notes"] == [])
        last = await probe.metrics()
        assert await service.stop() == 0
    assert (noted.code, free.code) == (200, 200)
    assert "partition 0: 1 offsets are blocked by an open transaction" in noted.json["notes"][0]["told"]
    assert (found.one("held_back_records", "0"), found.one("stuck")) == (1, 0)
    assert service.events("stuck") == []
    assert service.events("blocked_by_transaction")[0]["partition"] == 0
    assert (last.one("held_back_records", "0"), last.one("lag_records", "0")) == (0, 0)
