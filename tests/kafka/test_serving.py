"""The service on Kafka: every producer's records, transactions and odd records, kills, and a topic that goes away."""

from __future__ import annotations

import asyncio
import json
import signal
from itertools import islice
from random import Random

import pytest
from confluent_kafka import TopicPartition
from kafka_fixtures import create_topic
from kafka_producers import produce, producer, transaction
from serving import fold_quietly, messages, server, settings_of, stored, traffic

from runfold import wiring
from runfold.cli.exits import run
from runfold.cli.status_report import report
from runfold.demo.traffic import interleaved
from runfold.log.clock import wall_clock
from runfold.log.kafka import KafkaSource
from runfold.log.kafka_options import KafkaOptions
from runfold.log.kafka_publish import KafkaSink
from runfold.log.partitioner import key_hash
from runfold.log.publisher import Publisher
from runfold_schemas import RunCreated, encode

pytestmark = pytest.mark.usefixtures("collector")

SMALL = {"batch_records": 200, "batch_linger": 0}


def log_of(topic) -> str:
    return f"kafka://{topic.servers}/{topic.topic}"


async def fold(folder, topic, **environment):
    """Fold the topic up to its end, in a process of its own."""
    async with server(folder, log=log_of(topic), **environment) as service:
        await service.start("--until-end")
        assert (await service.ended(), service.text) == (0, "")
        return service


async def quiet(folder, topic):
    return await fold_quietly(folder, source=KafkaSource(topic, KafkaOptions()))


async def status(folder, topic):
    settings = settings_of(folder, log=log_of(topic))
    source, store = wiring.open_source(settings), wiring.open_store(settings)
    await source.start()
    await store.open(write=False)
    try:
        return await report(source, store, rules=settings.rules, now=wall_clock())
    finally:
        await store.close()
        await source.close()


async def test_kafka_and_a_file_fold_to_the_same_runs(topic, opened, tmp_path):
    """Events in Kafka come to the store that the same events in an embedded log come to, position by position."""
    written = messages(traffic(3_000))
    sink = await opened.sink(topic)
    await sink.append(written)
    await fold(tmp_path, topic)
    assert await stored(tmp_path) == await quiet(tmp_path, topic)
    assert (await stored(tmp_path)).records == len(written)


async def test_others_with_their_own_partitioner_are_consistent(topic, tmp_path):
    """librdkafka puts keys elsewhere than Java does; alone it keeps every run whole."""
    with producer(topic) as others:
        for key, value, _ in messages(traffic(1_000)):
            others.produce(topic.topic, value, key)
    await fold(tmp_path, topic)
    found = await status(tmp_path, topic)
    assert (found.split, found.without_created, sum(found.dead_letters.values())) == (0, 0, 0)


async def test_mixed_partitioners_are_counted_and_explained(topic, opened, tmp_path):
    """Runs that two partitioners have split over partitions are counted in status, which names the cause and the remedy."""
    await published_by_two(topic, opened)
    await fold(tmp_path, topic)
    found = await status(tmp_path, topic)
    assert found.split > 0
    assert f"{found.split:,} runs have events on more than one partition" in found.remarks[0]
    assert "partitioner=murmur2_random" in found.remarks[0]
    assert found.healthy


async def test_the_remedy_for_mixed_partitioners(topic, opened, tmp_path):
    """Told to place keys as Kafka's own clients do, librdkafka splits no run that others began."""
    await published_by_two(topic, opened, partitioner="murmur2_random")
    await fold(tmp_path, topic)
    found = await status(tmp_path, topic)
    assert (found.split, found.without_created, found.remarks) == (0, 0, [])


async def published_by_two(topic, opened, **settings):
    """The first half of the events by librdkafka, the second by ourselves; runs are open in between."""
    written = messages(traffic(1_000))
    with producer(topic, **settings) as others:
        for key, value, _ in written[:500]:
            others.produce(topic.topic, value, key)
    await (await opened.sink(topic)).append(written[500:])


async def test_json_of_kafkas_console_producer_is_folded(topic, tmp_path, kafka_tools):
    """Events that somebody types as JSON into Kafka's own tool are folded as all others."""
    event = {"type": "thread.run.created", "id": "1", "thread_id": "t", "assistant_id": "a", "model": "m"}
    lines = [
        f"run_{number}\t" + json.dumps(event | {"run_id": f"run_{number}", "occurred_at": 1_760_000_000_000})
        for number in range(20)
    ]
    kafka_tools.console_producer(topic, lines)
    await fold(tmp_path, topic)
    found = await status(tmp_path, topic)
    assert (found.runs["queued"], found.dead_letters) == (20, {})


async def test_odd_records_are_dead_letters_and_stop_nobody(topic, opened, tmp_path):
    """No key, no value, another's key, garbage, too large: each is a letter with its reason; what follows is folded."""
    created = encode(RunCreated(run_id="run_1", thread_id="t", id="1", occurred_at=1_760_000_000_000))
    with producer(topic, message_max_bytes=1_048_588) as others:
        for key, value in (
            (None, created),
            (b"run_1", None),
            (b"run_2", created),
            (b"run_1", b"\xff"),
            (b"run_1", bytes(1_000_001)),
            (b"run_1", created),
        ):
            others.produce(topic.topic, value, key, 0, headers=[("trace", b"1")])
    await fold(tmp_path, topic)
    found = await status(tmp_path, topic)
    assert found.dead_letters == {"key_mismatch": 2, "malformed": 2, "too_large": 1}
    assert found.runs["queued"] == 1


async def test_a_log_that_ends_with_marks_is_folded_to_its_end(topic, tmp_path):
    """`--until-end` comes to its end where the last offsets hold no record, and nothing is called waiting."""
    created = encode(RunCreated(run_id="run_1", thread_id="t", id="1", occurred_at=1_760_000_000_000))
    with transaction(topic, topic.topic) as others:
        others.produce(topic.topic, created, b"run_1", 0)
        others.commit_transaction(30)
        others.begin_transaction()
        others.produce(topic.topic, created, b"run_1", 0)
        others.flush(30)
        others.abort_transaction(30)
    await fold(tmp_path, topic)
    found = await status(tmp_path, topic)
    assert (found.runs["queued"], found.partitions[0].lag, found.healthy) == (1, 0, True)


async def test_an_open_transaction_is_named(topic, tmp_path):
    """Status says of a partition that an open transaction blocks it, and unhealthy when that lasts."""
    created = encode(RunCreated(run_id="run_1", thread_id="t", id="1", occurred_at=1_760_000_000_000))
    produce(topic, created)
    await fold(tmp_path, topic)
    with transaction(topic, topic.topic) as others:
        others.produce(topic.topic, created, b"run_1", 0, timestamp=wall_clock() - 90_000)
        others.flush(30)
        blocked = await status(tmp_path, topic)
        others.abort_transaction(30)
    assert (blocked.partitions[0].held_back, blocked.partitions[0].lag) == (1, 0)
    assert "blocked by an open transaction for 9" in blocked.unhealthy[0]


async def test_killed_at_random_on_kafka(topic, tmp_path):
    """After kills -9 at random instants under load, the store is that of a quiet fold of the same topic."""
    random, events, over = Random(5), interleaved(300, Random(5), source=None, start=1_760_000_000_000), asyncio.Event()

    async def publish():
        async with Publisher(KafkaSink(topic, KafkaOptions()), source="platform") as publisher:
            while not over.is_set():
                await publisher.publish_many(list(islice(events, 100)))
                await asyncio.sleep(0.01)

    publishing = asyncio.create_task(publish())
    for _ in range(5):
        async with server(tmp_path, log=log_of(topic), **SMALL) as service:
            await service.start()
            await service.said("partitions_taken")
            await asyncio.sleep(random.uniform(0.05, 0.4))  # the instant of death, not a condition
            assert await service.stop(signal.SIGKILL) == -signal.SIGKILL
    over.set()
    await publishing
    await fold(tmp_path, topic)
    assert await stored(tmp_path) == await quiet(tmp_path, topic)


async def test_the_lag_is_seen_by_kafkas_own_tool(topic, opened, tmp_path, kafka_tools):
    """After a fold `kafka-consumer-groups` shows that nothing is left, under the group of the settings."""
    await (await opened.sink(topic)).append(messages(traffic(500)))
    await fold(tmp_path, topic, kafka_group_id=topic.topic)
    lags = await asyncio.to_thread(kafka_tools.lag, topic.topic)
    assert lags
    assert {lag for _, _, lag in lags.values()} == {0}


async def test_the_service_waits_for_its_topic(kafka, topic, admin, tmp_path):
    """Started before the topic is made, the service waits for it, and folds what then comes."""
    name = f"{topic.topic}-later"
    later = type(topic)(topic.servers, name)
    async with server(tmp_path, log=log_of(later)) as service:
        await service.start()
        assert "runfold topic create" in (await service.said("waiting_for_log"))["reason"]
        create_topic(admin, name, partitions=1)
        produce(later, encode(RunCreated(run_id="run_1", thread_id="t", id="1", occurred_at=1_760_000_000_000)))
        await service.said("batch_committed", records=1)
        assert await service.stop() == 0
    admin.delete_topics([name])[name].result(30)


async def test_a_topic_made_anew_is_refused(topic, opened, admin, tmp_path):
    """A store refuses the topic that was made anew under the same name: living, and when it is started again."""
    await (await opened.sink(topic)).append(messages(traffic(500)))
    async with server(tmp_path, log=log_of(topic)) as service:
        await service.start()
        await service.said("batch_committed")
        admin.delete_topics([topic.topic])[topic.topic].result(30)
        assert await service.ended() == 3
        assert "RUNFOLD_LOG" in service.text
    await made_anew(admin, topic)
    async with server(tmp_path, log=log_of(topic)) as service:
        await service.start()
        assert await service.ended() == 2
        assert "RUNFOLD_STORE" in service.text


async def made_anew(admin, topic):
    """Kafka takes a moment to forget the name."""
    async with asyncio.timeout(30):
        while True:
            try:
                return create_topic(admin, topic.topic, partitions=4)
            except Exception:  # noqa: BLE001 - whatever confluent-kafka raises
                await asyncio.sleep(0.1)


async def test_a_lost_range_is_refused_with_what_is_gone(topic, opened, admin, tmp_path):
    """Where retention has taken what was not folded, the service names the range and folds nothing beyond it."""
    written = messages(traffic(1_000))
    sink = await opened.sink(topic)
    await sink.append(written[:500])
    await fold(tmp_path, topic)
    before = await stored(tmp_path)
    await sink.append(written[500:])
    which = key_hash(written[600].key) % 4
    end = (await (await opened.source(topic)).ranges([which]))[which].end
    for done in admin.delete_records([TopicPartition(topic.topic, which, end)]).values():
        done.result(30)
    async with server(tmp_path, log=log_of(topic)) as service:
        await service.start()
        assert await service.ended() != 0
        assert f"partition {which}: offsets" in service.text
    assert await stored(tmp_path) == before


def test_publish_and_status_on_the_command_line(topic, tmp_path, monkeypatch, capsys):
    """`runfold publish` into Kafka names the positions that it reached."""
    monkeypatch.setenv("RUNFOLD_LOG", log_of(topic))
    monkeypatch.setenv("RUNFOLD_DATA", str(tmp_path))
    file = tmp_path / "events.jsonl"
    event = {"type": "thread.run.created", "run_id": "run_1", "thread_id": "t"}
    file.write_text("".join(json.dumps(event) + "\n" for _ in range(10)))
    assert run(["publish", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"published": 10, "positions": {str(key_hash(b"run_1") % 4): 10}}
