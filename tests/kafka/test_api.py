"""The HTTP API on Kafka: what it takes is in the topic before it answers, and its feed tells what was folded from there."""

from __future__ import annotations

import asyncio

import pytest
from api_serving import api_server, ask
from feed_reading import told
from kafka_producers import producer
from serving import messages, settings_of, traffic

from runfold import wiring
from runfold.log.kafka import KafkaSource
from runfold.log.kafka_options import KafkaOptions
from runfold.service.serve import serve
from runfold_schemas.codec import encode_json

pytestmark = pytest.mark.usefixtures("collector")


@pytest.fixture
def log(topic):
    return f"kafka://{topic.servers}/{topic.topic}"


@pytest.fixture
def fold(tmp_path, log):
    """Folds the topic up to its end, into the store that the API reads; the store is there from the start."""

    def call():
        settings = settings_of(tmp_path, log=log)
        source, store = wiring.open_source(settings), wiring.open_store(settings, make_folder=True)
        asyncio.run(serve(settings, source, store, until_end=True, stop=asyncio.Event()))

    call()
    return call


@pytest.fixture
def server(tmp_path, log, fold):
    with api_server(tmp_path, log=log) as made:
        yield made


def publish(server, events):
    body = b"[" + b",".join(map(encode_json, events)) + b"]"
    answer = ask(server, "/v1/events", method="POST", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 202, answer.text
    return answer.json()


def test_accepted_events_are_in_the_topic(server, topic, read_to):
    """202 comes when Kafka has every event, where the answer says that it is."""
    events = traffic(300)
    said = publish(server, events)

    async def written():
        source = KafkaSource(topic, KafkaOptions())
        await source.start()
        positions = {int(which): end for which, end in said["position"].items()}
        source.assign(dict.fromkeys(positions, 0))
        try:
            return await read_to(source, positions)
        finally:
            await source.close()

    found = asyncio.run(written())
    keys = {(which, record.offset): record.key.decode() for which, records in found.items() for record in records}
    places = [(verdict["partition"], verdict["offset"]) for verdict in said["data"]]
    assert [keys[place] for place in places] == [event.run_id for event in events]


def test_what_was_published_is_read_once_it_is_folded(server, fold):
    """`wait_for` as publishing answers it: 504 before the topic is folded up to there, the Run after."""
    (first,) = traffic(1)
    said = publish(server, [first])
    asked = f"/v1/threads/{first.thread_id}/runs/{first.run_id}?wait_for={said['wait_for']}&wait_seconds="
    assert ask(server, asked + "0").status_code == 504
    fold()
    assert ask(server, asked + "10").json()["id"] == first.run_id


def test_the_feed_tells_every_run_between_marks_of_transactions(server, topic, fold):
    """Each run once as it stands, resumed in the middle, over offsets that hold marks and aborted records."""
    written = messages(traffic(600))
    with producer(topic, transactional_id=topic.topic) as others:
        others.init_transactions(30)
        for begin in range(0, len(written), 50):
            for end in (others.abort_transaction, others.commit_transaction):
                others.begin_transaction()
                for key, value, _ in written[begin : begin + 50]:
                    others.produce(topic.topic, value, key)
                end(30)
    fold()
    found = [each for each in told(server, after="beginning") if each.name]
    assert {each.run["id"] for each in found} == {key.decode() for key, _, _ in written}
    assert len({each.run["id"] for each in found}) == len(found)
    half = found[len(found) // 2]
    rest = [each for each in told(server, last=half.id) if each.name]
    assert [each.run for each in rest] == [each.run for each in found[len(found) // 2 + 1 :]]
