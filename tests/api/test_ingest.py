"""Events over HTTP: into the log before the answer, all of a request or none, each with its verdict and its place."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import msgspec
import pytest
from api_serving import ApiServer, add_key, api_server, ask, publish_and_fold
from serving import settings_of

from runfold import wiring
from runfold.api.ingest import MOST_EVENTS
from runfold.fold.record import Record
from runfold.log.publisher import Publisher
from runfold_schemas import RunCompleted, decode


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of the server."""
    made = tmp_path_factory.mktemp("ingest")
    publish_and_fold(made, [])
    return made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ApiServer]:
    """One server for all; each test publishes runs of its own."""
    with api_server(folder) as made:
        yield made


@pytest.fixture
def name() -> str:
    """A run's name that no other test has."""
    return f"run_{uuid4().hex[:12]}"


AT = 1_764_000_000_000
EVENT: dict[str, Any] = {
    "type": "thread.run.completed",
    "run_id": "run_1",
    "thread_id": "thread_1",
    "id": "e1",
    "occurred_at": AT,
    "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
}
JSON, LINES, MESSAGES = "application/json", "application/x-ndjson", "application/msgpack"


def numbered(name: str, count: int) -> list[dict[str, Any]]:
    return [{**EVENT, "run_id": f"{name}_{number}"} for number in range(count)]


def post(server: ApiServer, body: bytes, *, media: str = JSON, **options: Any) -> httpx2.Response:
    return ask(server, "/v1/events", method="POST", content=body, headers={"content-type": media}, **options)


async def _records(folder: Path) -> list[tuple[int, Record]]:
    source = wiring.open_source(settings_of(folder))
    await source.start()
    try:
        held = await source.ranges(range(await source.partitions()))
        return [
            (partition, record)
            for partition, (begin, end) in held.items()
            async for some in source.read(partition, begin=begin, end=end)
            for record in some
        ]
    finally:
        await source.close()


def records(folder: Path, name: str = "") -> list[tuple[int, Record]]:
    """What is in the log of runs of that name, with its partition; by default, everything."""
    return [found for found in asyncio.run(_records(folder)) if (found[1].key or b"").startswith(name.encode())]


def as_json(events: Sequence[Any]) -> bytes:
    return json.dumps(events).encode()


def as_lines(events: Sequence[Any]) -> bytes:
    return b"\r\n".join(json.dumps(event).encode() for event in events) + b"\n\n"


def as_maps(events: Sequence[Any]) -> bytes:
    return b"".join(map(msgspec.msgpack.encode, events))


@pytest.mark.parametrize(
    ("media", "encoded", "count"),
    [
        (JSON, as_json, 3),
        (LINES, as_lines, 3),
        (MESSAGES, as_maps, 3),
        (MESSAGES, msgspec.msgpack.encode, 3),
        (MESSAGES, msgspec.msgpack.encode, 7_000),
        (JSON, lambda events: json.dumps(events[0], indent=2).encode(), 1),
        (JSON, lambda events: b"\xef\xbb\xbf " + as_json(events), 2),
        (MESSAGES, lambda events: msgspec.msgpack.encode(events[0]), 1),
    ],
    ids=["array", "lines", "maps", "array of maps", "many", "object", "with a mark", "map"],
)
def test_events_come_in_every_shape(
    folder: Path, server: ApiServer, name: str, media: str, encoded: Any, count: int
) -> None:
    """One or many, JSON or MessagePack: each is in the log at the place that its verdict tells, and nothing else is."""
    answer = post(server, encoded(numbered(name, count)), media=media)
    assert answer.status_code == 202
    verdicts = answer.json()["data"]
    assert [(of["index"], of["status"], of["run_id"]) for of in verdicts] == [
        (number, "accepted", f"{name}_{number}") for number in range(count)
    ]
    written = {(partition, record.offset): record for partition, record in records(folder, name)}
    assert len(written) == count
    for of in verdicts:
        event = decode(written[of["partition"], of["offset"]].value)
        assert isinstance(event, RunCompleted)
        assert (event.run_id, event.id, event.source, event.sequence) == (of["run_id"], "e1", None, None)


def test_the_answer_tells_up_to_where_to_wait(server: ApiServer, name: str) -> None:
    """The position is behind the last record of each partition that got one, and is told as reads take it."""
    told = post(server, as_json(numbered(name, 20))).json()
    expected: dict[str, int] = {}
    for of in told["data"]:
        expected[str(of["partition"])] = max(expected.get(str(of["partition"]), 0), of["offset"] + 1)
    assert told["position"] == expected
    assert dict(part.split(":") for part in told["wait_for"].split(",")) == {
        of: str(end) for of, end in expected.items()
    }


def test_what_is_sent_again_counts_once(folder: Path, server: ApiServer, name: str) -> None:
    """The log has it twice, the fold takes it once; within a request what repeats is told."""
    at = 1_763_000_040
    event = {**EVENT, "run_id": name, "occurred_at": at * 1000}
    first = post(server, as_json([event, {**event, "id": "e2"}, event])).json()["data"]
    assert [of.get("repeats") for of in first] == [None, None, 0]
    assert post(server, as_json([event])).status_code == 202
    publish_and_fold(folder, [])
    assert len(records(folder, name)) == 4
    found = ask(server, f"/v1/organization/usage/completions?start_time={at}&bucket_width=1m&limit=1").json()
    assert found["data"][0]["results"][0]["input_tokens"] == 3


def test_an_id_and_a_time_may_be_left_out(folder: Path, server: ApiServer, name: str) -> None:
    """The id that is made is told; the time is now."""
    bare = {field: value for field, value in EVENT.items() if field not in ("id", "occurred_at")}
    (verdict,) = post(server, as_json([{**bare, "run_id": name}])).json()["data"]
    event = decode(records(folder, name)[0][1].value)
    assert isinstance(event, RunCompleted)
    assert event.id == verdict["id"]
    assert event.occurred_at > AT


def test_source_and_sequence_stay_as_they_came(folder: Path, server: ApiServer, name: str) -> None:
    """Nothing is numbered here."""
    post(server, as_json([{**EVENT, "run_id": name, "source": "mine", "sequence": 7}]))
    event = decode(records(folder, name)[0][1].value)
    assert isinstance(event, RunCompleted)
    assert (event.source, event.sequence) == ("mine", 7)


INVALID: list[tuple[Any, str]] = [
    (5, "event"),
    (None, "event"),
    ([], "event"),
    ({}, "type"),
    ({**EVENT, "type": "thread.run.exploded"}, "type"),
    ({**EVENT, "run_id": None}, "event"),
    ({**EVENT, "run_id": ""}, "run_id"),
    ({**EVENT, "run_id": 5}, "run_id"),
    ({**EVENT, "id": "x" * 65}, "id"),
    ({**EVENT, "occurred_at": AT // 1000}, "occurred_at"),
    ({**EVENT, "occurred_at": 10 * AT}, "occurred_at"),
    ({**EVENT, "occurred_at": "now"}, "occurred_at"),
    ({**EVENT, "usage": {"prompt_tokens": -1, "completion_tokens": 0, "total_tokens": 0}}, "usage.prompt_tokens"),
    ({**EVENT, "sequence": 0}, "sequence"),
    ({**EVENT, "thread_id": "x" * 1_000_001}, "event"),
]


@pytest.mark.parametrize(("broken", "field"), INVALID, ids=lambda value: str(value)[:60])
@pytest.mark.parametrize("encoded", [as_json, as_lines, msgspec.msgpack.encode, as_maps])
def test_one_invalid_event_stops_the_request(
    folder: Path, server: ApiServer, name: str, encoded: Any, broken: Any, field: str
) -> None:
    """The verdicts name it, its field and the reason, and say of the others that they were not sent; nothing was."""
    fine = {**EVENT, "run_id": name}
    media = MESSAGES if encoded in (msgspec.msgpack.encode, as_maps) else JSON
    answer = post(server, encoded([fine, broken, fine]), media=media)
    assert answer.status_code == 400
    told = answer.json()
    assert [of["status"] for of in told["data"]] == ["not_sent", "invalid", "not_sent"]
    assert told["data"][1]["reason"]
    assert told["error"]["code"] == "invalid_events"
    assert told["error"]["param"].startswith("[1].")
    if field != "event":
        assert told["data"][1]["field"] in (field, "event")
    assert records(folder, name) == []


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b" \n", b"[", b"[{]", b"[1,", b"\x00", b"5", b'"text"', b"null", b"\xc1", b"\xc0"),
        *(b"\x81", b"\x91", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\x80\xc1", b"[]", b"\x90"),
        *(b"[" * 100_000, b"\x91" * 100_000, b"\xef\xbb\xbf"),
    ],
    ids=lambda body: repr(body[:12]),
)
def test_a_body_that_cannot_be_read_is_refused(server: ApiServer, body: bytes) -> None:
    """A 400 in OpenAI's shape."""
    for media in (JSON, MESSAGES):
        answer = post(server, body, media=media)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] in ("no_events", "unreadable_body")


def test_deep_nesting_is_one_invalid_event(server: ApiServer) -> None:
    """An event nested beyond all reason is invalid, whichever wire it comes by; the server lives."""
    deep = b'{"type":"thread.run.modified","metadata":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001
    for body, media in ((deep, JSON), (deep + b"\n" + deep, LINES), (b"\x81\xa1a" * 50_000 + b"\x01", MESSAGES)):
        answer = post(server, body, media=media)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


def test_limits_are_told(tmp_path: Path) -> None:
    """Too many events, or too many bytes, told by length or as they come: 413 with the limit; nothing is sent."""
    publish_and_fold(tmp_path, [])
    with api_server(tmp_path, api_largest_body=2_000_000) as server:
        many = post(server, msgspec.msgpack.encode([{}] * (MOST_EVENTS + 1)), media=MESSAGES)
        assert (many.status_code, "10,000 events" in many.text) == (413, True)
        large = b"[" + b" " * 2_000_000 + b"]"
        for content in (large, iter([large[:1_000_000], large[1_000_000:]])):
            answer = httpx2.post(f"{server.url}/v1/events", content=content, headers={"content-type": JSON})
            assert (answer.status_code, "2,000,000 bytes" in answer.text) == (413, True)
    assert records(tmp_path) == []


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_other_media_are_refused(server: ApiServer, media: str) -> None:
    """What a page of another origin can send without asking is not taken: 415."""
    assert post(server, as_json([EVENT]), media=media).status_code == 415


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[tuple[ApiServer, dict[str, str]]]:
    """A server with a key of each kind."""
    publish_and_fold(tmp_path, [])
    made = {scope: add_key(tmp_path, scope) for scope in ("read", "publish", "admin")}
    made["confined"] = add_key(tmp_path, "publish", project_id="proj_1")
    with api_server(tmp_path) as server:
        yield server, made


def test_a_publish_key_publishes_and_does_nothing_else(keys: tuple[ApiServer, dict[str, str]]) -> None:
    """Read and confined keys may not publish, a publish key may not read, and without a key nobody may anything."""
    server, made = keys
    codes = {name: post(server, as_json([EVENT]), key=key).status_code for name, key in made.items()}
    assert codes == {"read": 403, "publish": 202, "admin": 202, "confined": 403}
    assert post(server, as_json([EVENT])).status_code == 401
    assert ask(server, "/v1/organization/usage/completions?start_time=0", key=made["publish"]).status_code == 403


def test_a_log_that_is_out_of_reach_is_503(tmp_path: Path) -> None:
    """What is told is that trying again helps, not where the log is."""
    publish_and_fold(tmp_path, [])
    with api_server(tmp_path, log=f"sqlite:///{tmp_path / 'no' / 'such' / 'folder'}/log.db") as server:
        (tmp_path / "no").write_text("a file where a folder should be")
        answer = post(server, as_json([EVENT]))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert "folder" not in answer.text


class SlowSink:
    """A log that takes its time: appends wait for ``go``."""

    def __init__(self) -> None:
        self.go, self.taken = asyncio.Event(), 0

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def append(self, messages: Sequence[Any]) -> list[Any]:
        await self.go.wait()
        self.taken += len(messages)
        return [(0, number) for number in range(len(messages))]


async def test_what_waits_for_the_log_is_bounded() -> None:
    """Where too much waits already, the next request is told to come back: 429 with Retry-After, nothing of it queued."""
    from runfold.api.errors import TooManyRequests
    from runfold.api.intake import Intake
    from runfold.log.port import Message

    sink = SlowSink()
    intake = Intake(lambda: Publisher(sink, most_events=10))  # type: ignore[arg-type]
    waiting = [asyncio.create_task(intake.send([Message(b"k", b"v")] * 6)) for _ in range(2)]
    await asyncio.sleep(0.05)
    with pytest.raises(TooManyRequests) as raised:
        await intake.send([Message(b"k", b"v")])
    assert raised.value.headers == {"retry-after": "1"}
    sink.go.set()
    await asyncio.gather(*waiting)
    assert len(await intake.send([Message(b"k", b"v")])) == 1
    await intake.close()
    assert sink.taken == 13
