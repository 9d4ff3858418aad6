"""The door: who is let in, what is refused before any room sees it, and what every answer carries."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import openai
import pytest
from api_serving import ApiServer, add_key, api_server, ask, client_of, publish_and_fold
from fold_stories import event

from runfold.api.connection import HEAD_SECONDS
from runfold.api.errors import TooManyRequests
from runfold.api.limits import Limits
from runfold.cli.exits import run
from runfold.log.port import Message
from runfold_schemas import RunCreated, RunInProgress

LISTED = "/v1/threads/thread_1/runs"
DISCARD = "/v1/runfold/dead-letters/0:0/discard"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("door")
    told = [event(RunCreated, 0), event(RunInProgress, 1, run_id="run_2"), Message(b"run_1", b"broken")]
    publish_and_fold(made, told)
    return made


@pytest.fixture(scope="module")
def open_house(folder: Path) -> Iterator[ApiServer]:
    """A server without keys."""
    with api_server(folder, api_largest_body=2_000) as made:
        yield made


def test_without_keys_any_bearer_reads(open_house: ApiServer) -> None:
    """Over loopback nobody needs a key to read while there are none."""
    assert ask(open_house, LISTED).status_code == 200
    assert ask(open_house, LISTED, key="sk-whatever").status_code == 200


def test_without_keys_nobody_administers(open_house: ApiServer) -> None:
    """What changes something for everybody needs a key even where nobody needs one to read."""
    answer = ask(open_house, DISCARD, method="POST", json={"reason": "x"})
    assert answer.status_code == 401
    assert "scope admin" in answer.json()["error"]["message"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "", "localhost.evil.example"])
def test_another_host_name_is_refused(open_house: ApiServer, host: str) -> None:
    """A page whose name was rebound to loopback gets nothing, for it asks by its own name."""
    answer = ask(open_house, LISTED, headers={"host": host})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "unknown_host"


def test_a_page_of_another_origin_changes_nothing(open_house: ApiServer) -> None:
    """A request that changes something, sent by a page of another origin, is refused whoever bears it."""
    answer = ask(open_house, DISCARD, method="POST", json={"reason": "x"}, headers={"origin": "https://evil.example"})
    assert answer.status_code == 403


def test_what_a_page_can_send_unasked_is_refused(open_house: ApiServer) -> None:
    """Forms and plain text are no content types of ours."""
    for media in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = ask(open_house, DISCARD, method="POST", content=b"{}", headers={"content-type": media})
        assert answer.status_code == 415


def test_a_large_body_is_refused(open_house: ApiServer) -> None:
    """More bytes than RUNFOLD_API_LARGEST_BODY are not read."""
    answer = ask(open_house, DISCARD, method="POST", json={"reason": "x" * 3_000})
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing/here", 404), ("POST", LISTED, 405), ("PUT", "/v1/runfold/runs", 405), ("GET", "/nowhere", 404)],
)
def test_every_error_has_openai_s_shape(open_house: ApiServer, method: str, path: str, status: int) -> None:
    """Also what the framework refuses is told as OpenAI's clients read it."""
    answer = ask(open_house, path, method=method)
    assert answer.status_code == status
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize("path", [LISTED, "/v1/runfold/runs", "/v1/runfold/stuck-runs", "/v1/runfold/dead-letters"])
def test_an_unknown_parameter_is_named(open_house: ApiServer, path: str) -> None:
    """A filter that is misspelt does not give everything."""
    answer = ask(open_house, f"{path}?modle=x")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "modle")


def test_every_answer_says_how_fresh_it_is(open_house: ApiServer) -> None:
    """Position, lag and what is wanting, in the headers of answers and errors alike."""
    for path in (LISTED, "/v1/runfold/runs", "/nothing"):
        headers = ask(open_house, path).headers
        assert headers["x-runfold-position"].count(":") == 2
        assert float(headers["x-runfold-lag-seconds"]) == 0
        assert [headers[f"x-runfold-{name}"] for name in ("incomplete", "missing", "rejected")] == ["1", "0", "1"]


def test_every_answer_carries_security_headers(open_house: ApiServer) -> None:
    """No sniffing, no frames, no scripts, nothing kept; and no word of who serves."""
    for path in (LISTED, "/nothing"):
        headers = ask(open_house, path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "server" not in headers
        assert "access-control-allow-origin" not in headers


def test_head_answers_as_get_without_a_body(open_house: ApiServer) -> None:
    """The same status and headers, errors and the framework's own routes included, and no byte behind them."""
    for path in (LISTED, f"{LISTED}/", f"{LISTED}/run_1", f"{LISTED}/none", "/v1/runfold/runs", "/", "/nothing"):
        got, head = ask(open_house, path), ask(open_house, path, method="HEAD")
        assert (head.status_code, head.content) == (got.status_code, b"")
        for name in ("content-type", "content-length", "content-security-policy"):
            assert head.headers[name] == got.headers[name]


def test_head_of_a_stream_holds_no_connection(open_house: ApiServer) -> None:
    """HEAD of the feed, which has no end, is answered whole: the next request on that connection is answered too."""
    with closing(HTTPConnection(urlsplit(open_house.url).netloc, timeout=10)) as made:
        for method, path in (("HEAD", "/v1/runfold/feed"), ("GET", LISTED)):
            made.request(method, path)
            answer = made.getresponse()
            assert (answer.status, bool(answer.read())) == (200, method == "GET")


def test_what_may_be_asked_is_told_to_anybody(keyed: Keyed) -> None:
    """OPTIONS answers with the methods of a route, whoever asks, and with nothing else."""
    for path, methods in ((LISTED, {"GET", "OPTIONS"}), (DISCARD, {"POST", "OPTIONS"})):
        answer = ask(keyed.server, path, method="OPTIONS")
        assert (answer.status_code, answer.content) == (204, b"")
        assert set(answer.headers["allow"].split(", ")) == methods


def test_a_request_id_is_given_or_kept(open_house: ApiServer) -> None:
    """Each answer has one of its own; one that the caller gave is kept where it is fit to be shown."""
    assert ask(open_house, LISTED).headers["x-request-id"] != ask(open_house, LISTED).headers["x-request-id"]
    assert ask(open_house, LISTED, headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    assert ask(open_house, LISTED, headers={"x-request-id": "<script>"}).headers["x-request-id"] != "<script>"


def test_the_log_out_of_reach_costs_the_lag_alone(tmp_path: Path) -> None:
    """Runs are read from the store: without the log the lag is unknown, and histories are told to be out of reach."""
    publish_and_fold(tmp_path, [event(RunCreated, 0)])
    (tmp_path / "runfold.log.db").unlink()
    with api_server(tmp_path) as server:
        answer = ask(server, LISTED)
        assert answer.status_code == 200
        assert answer.json()["runfold"]["lag"] is None
        assert "x-runfold-lag-seconds" not in answer.headers
        history = ask(server, "/v1/runfold/runs/run_1/history")
        assert history.status_code == 503
        assert str(tmp_path) not in history.text


def test_a_fault_of_ours_tells_nothing(tmp_path: Path) -> None:
    """A row that cannot be read is a 500 without a trace of what is inside; the reason stands in the server's log."""
    import sqlite3

    publish_and_fold(tmp_path, [event(RunCreated, 0)])
    with sqlite3.connect(tmp_path / "runfold.db") as file:
        file.execute("update run set body = x'00'")
    file.close()
    with api_server(tmp_path) as server:
        answer = ask(server, f"{LISTED}/run_1")
        server.stop()
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "Traceback" not in answer.text and "decode" not in answer.text
    assert any("request_failed" in line for line in server.said)


class Keyed:
    """A server with keys: one for each scope, one that was revoked."""

    def __init__(self, server: ApiServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.read, self.publish, self.admin = (add_key(folder, scope) for scope in ("read", "publish", "admin"))


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[Keyed]:
    publish_and_fold(tmp_path, [event(RunCreated, 0), Message(b"run_1", b"broken")])
    add_key(tmp_path, "read")
    with api_server(tmp_path) as made:
        yield Keyed(made, tmp_path)


def test_with_keys_nobody_reads_without_one(keyed: Keyed) -> None:
    """No key, a wrong one, and one with a wrong secret are told alike in kind, through the client's exception."""
    assert ask(keyed.server, LISTED).status_code == 401
    wrong = [f"{keyed.read[:-1]}{'a' if keyed.read[-1] != 'a' else 'b'}", "sk-whatever", f"rf-{'a' * 12}-{'b' * 43}"]
    for key in wrong:
        with pytest.raises(openai.AuthenticationError) as raised, pytest.warns(DeprecationWarning):
            client_of(keyed.server, key=key).beta.threads.runs.list("thread_1")
        assert raised.value.code == "invalid_api_key"


def test_a_new_key_works_at_once(keyed: Keyed) -> None:
    """A key that was made a moment ago is known to a server that has been running."""
    assert ask(keyed.server, LISTED, key=keyed.read).status_code == 200
    assert ask(keyed.server, LISTED, key=add_key(keyed.folder, "read")).status_code == 200


def test_a_scope_is_what_a_key_may_do(keyed: Keyed) -> None:
    """A key that publishes reads nothing, one that reads decides nothing, and an admin's does both."""
    letter = ask(keyed.server, "/v1/runfold/dead-letters", key=keyed.admin).json()["data"][0]
    discard = f"/v1/runfold/dead-letters/{letter['partition']}:{letter['offset']}/discard"
    assert ask(keyed.server, LISTED, key=keyed.publish).status_code == 403
    assert ask(keyed.server, "/v1/runfold/runs", key=keyed.publish).status_code == 403
    assert ask(keyed.server, discard, method="POST", key=keyed.read, json={"reason": "x"}).status_code == 403
    assert ask(keyed.server, discard, method="POST", key=keyed.admin, json={"reason": "x"}).status_code == 200


def test_a_revoked_key_is_out_within_a_second(
    keyed: Keyed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``runfold keys revoke`` ends a key for servers that run."""
    monkeypatch.delenv("RUNFOLD_TEST_RUN_FOLDER", raising=False)
    monkeypatch.setenv("RUNFOLD_DATA", str(keyed.folder))
    assert ask(keyed.server, LISTED, key=keyed.read).status_code == 200
    assert run(["keys", "revoke", keyed.read.split("-")[1]]) == 0
    deadline = time.monotonic() + 2
    while ask(keyed.server, LISTED, key=keyed.read).status_code != 401:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    capsys.readouterr()


def test_the_last_revoked_key_leaves_the_door_shut(keyed: Keyed) -> None:
    """A store whose keys are all revoked is not a store without keys."""
    import sqlite3

    with sqlite3.connect(keyed.folder / "runfold.db") as file:
        file.execute("update api_key set revoked_at = 1")
    file.close()
    time.sleep(1.1)
    assert ask(keyed.server, LISTED).status_code == 401


def test_keys_are_made_and_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``runfold keys create`` shows a key once; ``list`` shows what it may, and the store has no secret."""
    publish_and_fold(tmp_path, [])
    monkeypatch.delenv("RUNFOLD_TEST_RUN_FOLDER", raising=False)
    monkeypatch.setenv("RUNFOLD_DATA", str(tmp_path))
    capsys.readouterr()
    assert run(["keys", "create", "laptop", "--scope", "read", "--project", "proj_1", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert run(["keys", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed == {name: value for name, value in made.items() if name != "key"}
    assert (listed["name"], listed["project_id"], listed["scopes"]) == ("laptop", "proj_1", ["read"])
    secret = made["key"].split("-", 2)[2].encode()
    assert all(secret not in path.read_bytes() for path in tmp_path.glob("runfold.db*"))
    assert run(["keys", "create", "--scope", "admin", "--project", "proj_1"]) == 2
    assert run(["keys", "revoke", "nobody"]) == 1


def test_too_many_requests_are_told_to_wait(tmp_path: Path) -> None:
    """Beyond RUNFOLD_API_RATE a caller gets a 429 that says when to come back, as the client's exception."""
    publish_and_fold(tmp_path, [event(RunCreated, 0)])
    with api_server(tmp_path, api_rate=0.05) as server:
        assert ask(server, LISTED).status_code == 200
        answer = ask(server, LISTED)
        assert answer.status_code == 429
        assert 1 <= int(answer.headers["retry-after"]) <= 20
        with pytest.raises(openai.RateLimitError), pytest.warns(DeprecationWarning):
            client_of(server).beta.threads.runs.list("thread_1")


def test_a_bucket_fills_at_its_rate() -> None:
    """So many requests at once, then one whenever enough time has passed; each caller has a bucket of its own."""
    now = 0.0
    limits = Limits(2, clock=lambda: now)
    for _ in range(2):
        limits.take("a")
    with pytest.raises(TooManyRequests):
        limits.take("a")
    limits.take("b")
    now = 0.5
    limits.take("a")
    with pytest.raises(TooManyRequests):
        limits.take("a")


def test_pages_of_an_allowed_origin_may_ask(tmp_path: Path) -> None:
    """CORS is answered where RUNFOLD_API_ORIGINS names the origin, preflight and all, and nowhere else."""
    publish_and_fold(tmp_path, [])
    add_key(tmp_path, "read")
    asked = {"access-control-request-method": "GET", "access-control-request-headers": "authorization"}
    with api_server(tmp_path, api_origins="https://ours.example") as server:
        ours = ask(server, "/v1/runfold/runs", method="OPTIONS", headers={"origin": "https://ours.example"} | asked)
        others = ask(server, "/v1/runfold/runs", method="OPTIONS", headers={"origin": "https://evil.example"} | asked)
    assert ours.status_code in (200, 204)
    assert ours.headers["access-control-allow-origin"] == "https://ours.example"
    assert "access-control-allow-origin" not in others.headers


def test_an_answer_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    """Beyond RUNFOLD_API_TIME_LIMIT a request that is never finished is told so, and the server answers others."""
    publish_and_fold(tmp_path, [event(RunCreated, 0)])
    key = add_key(tmp_path, "admin")
    with api_server(tmp_path, api_time_limit=0.5) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as slow:
            head = f"POST {DISCARD} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\n"
            slow.sendall(f"{head}content-type: application/json\r\ncontent-length: 100\r\n\r\n{{".encode())
            assert ask(server, LISTED, key=key).status_code == 200
            answer = slow.recv(4096)
    assert answer.startswith(b"HTTP/1.1 504")


@pytest.mark.parametrize("endless", [b"GET /" + b"x" * 200_000, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 40_000])
def test_a_head_without_an_end_is_refused(open_house: ApiServer, endless: bytes) -> None:
    """An address, or headers, beyond the bound are a 431 in OpenAI's shape, and the connection ends."""
    with socket.create_connection(urlsplit(open_house.url).netloc.split(":"), timeout=10) as made:
        made.sendall(endless)
        head, _, body = made.recv(65536).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert json.loads(body)["error"]["code"] == "head_too_large"


def test_a_head_that_does_not_come_is_not_waited_for(open_house: ApiServer) -> None:
    """A connection that says nothing, and one that never says all, are ended; others are answered meanwhile."""
    place = urlsplit(open_house.url).netloc.split(":")
    with socket.create_connection(place) as silent, socket.create_connection(place) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n")
        assert ask(open_house, LISTED).status_code == 200
        for one in (silent, slow):
            one.settimeout(HEAD_SECONDS + 5)
            assert one.recv(1) == b""


def test_what_is_no_request_is_refused_in_openai_s_shape(open_house: ApiServer) -> None:
    """Bytes that are no HTTP get a 400 that clients can read."""
    with socket.create_connection(urlsplit(open_house.url).netloc.split(":"), timeout=10) as made:
        made.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        head, _, body = made.recv(65536).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"]["type"] == "invalid_request_error"
