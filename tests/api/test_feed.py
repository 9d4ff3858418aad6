"""The feed: each changed run's latest state, in the log's order per partition, from wherever a reader left off."""

from __future__ import annotations

import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from api_serving import ApiServer, add_key, api_server, ask, publish_and_fold
from feed_reading import PATH, Told, events, positions, told
from fold_stories import event, usage
from serving import traffic

from runfold.api.server import DRAIN_SECONDS
from runfold.log.partitioner import key_hash
from runfold_schemas import Event, RunCancelled, RunCompleted, RunCreated, RunInProgress

PARTITIONS = 2


def life(name: str, *, project: str = "proj", thread: str = "thread") -> list[Event]:
    named = {"run_id": name, "thread_id": thread}
    return [
        event(RunCreated, 0, **named, model="m", metadata={"project_id": project}),
        event(RunInProgress, 1, **named),
        event(RunCompleted, 2, **named, usage=usage()),
    ]


@contextmanager
def following(server: ApiServer, **params: str) -> Iterator[Iterator[Told]]:
    """What a stream says that goes on."""
    with httpx2.stream("GET", server.url + PATH, params=params, timeout=20) as answer:
        yield events(answer.iter_lines())


def runs_of(found: list[Told]) -> list[str]:
    return [each.run["id"] for each in found if each.name]


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> dict[str, object]:
    return {} if request.param == "sqlite" else {"store": request.getfixturevalue("postgres_url")}


def test_each_run_once_as_it_stands(tmp_path: Path, store: dict[str, object]) -> None:
    """From the beginning, each run is told once, as it is retrieved."""
    publish_and_fold(tmp_path, traffic(3_000), **store)
    with api_server(tmp_path, **store) as server:
        found = [each for each in told(server, after="beginning") if each.name]
        assert len(set(runs_of(found))) == len(found) > 500
        for each in found[::50]:
            assert each.run == ask(server, f"/v1/threads/{each.run['thread_id']}/runs/{each.run['id']}").json()
            assert each.name == f"thread.run.{each.run['status']}"


def test_in_order_per_partition(tmp_path: Path) -> None:
    """Within a partition, runs are told in the order of their last records, each with the position behind that record."""
    publish_and_fold(tmp_path, traffic(3_000))
    with api_server(tmp_path) as server:
        places: dict[int, list[int]] = {partition: [] for partition in range(PARTITIONS)}
        for each in told(server, after="beginning"):
            if each.name:
                partition = key_hash(each.run["id"].encode()) % PARTITIONS
                places[partition].append(positions(each.id)[partition])
        assert all(found == sorted(set(found)) and found for found in places.values())


def test_resumes_behind_any_event(tmp_path: Path, store: dict[str, object]) -> None:
    """Whatever event a reader saw last: going on by its id gives the rest, no more and no less."""
    publish_and_fold(tmp_path, traffic(1_500), **store)
    with api_server(tmp_path, **store) as server:
        found = [each for each in told(server, after="beginning") if each.name]
        for place in range(0, len(found), 40):
            assert sorted(runs_of(told(server, last=found[place].id))) == sorted(runs_of(found[place + 1 :]))


def test_nothing_is_missed_between_two_connections(tmp_path: Path) -> None:
    """What changed while nobody was connected, and another process answers, is told to who comes back."""
    publish_and_fold(tmp_path, life("run_before"))
    with api_server(tmp_path) as server:
        here = told(server)[-1].id
    publish_and_fold(tmp_path, life("run_between"))
    with api_server(tmp_path) as server:
        assert runs_of(told(server, last=here)) == ["run_between"]


def test_told_as_it_happens(tmp_path: Path) -> None:
    """Without a position a reader is told what changes from now on, while the connection stays."""
    publish_and_fold(tmp_path, life("run_before"))
    with api_server(tmp_path) as server, following(server) as stream:
        assert next(stream).name is None
        publish_and_fold(tmp_path, life("run_now"))
        assert next(each.run["id"] for each in stream if each.name) == "run_now"


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server over runs of two threads and projects, one of them cancelled."""
    cancelled = [
        event(RunCreated, 0, run_id="run_cancelled", thread_id="thread_a"),
        event(RunCancelled, 1, run_id="run_cancelled", thread_id="thread_a"),
    ]
    a, b = life("run_a", thread="thread_a", project="proj_a"), life("run_b", thread="thread_b", project="proj_b")
    folder = tmp_path_factory.mktemp("varied")
    publish_and_fold(folder, [*a, *b, *cancelled])
    with api_server(folder) as server:
        yield server


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"thread_id": "thread_a"}, {"run_a", "run_cancelled"}),
        ({"project_id": "proj_b"}, {"run_b"}),
        ({"status": "cancelled"}, {"run_cancelled"}),
        ({"status": "completed", "thread_id": "thread_a"}, {"run_a"}),
        ({"run_id": "run_b"}, {"run_b"}),
    ],
)
def test_filters(varied: ApiServer, params: dict[str, str], expected: set[str]) -> None:
    """Only runs of the thread, the project or the status that were asked for."""
    assert set(runs_of(told(varied, after="beginning", **params))) == expected


def test_a_confined_key_is_told_of_its_project(tmp_path: Path) -> None:
    """A key of one project is told of that project's runs, whatever project it asks for."""
    publish_and_fold(tmp_path, [*life("run_own", project="own"), *life("run_others", project="others")])
    key = add_key(tmp_path, "read", project_id="own")
    with api_server(tmp_path) as server:
        assert runs_of(told(server, key=key, after="beginning")) == ["run_own"]
        assert runs_of(told(server, key=key, after="beginning", project_id="others")) == []


def test_what_the_log_has_lost_is_said(tmp_path: Path) -> None:
    """Who comes back to a position that retention has taken is told so, and not given half of it."""
    publish_and_fold(tmp_path, traffic(500))
    with sqlite3.connect(tmp_path / "runfold.log.db") as log:
        log.execute("DELETE FROM partition_0 WHERE offset < 100")
    log.close()
    with api_server(tmp_path) as server:
        answer = ask(server, PATH, params={"after": "0:50,1:0", "ends": "true"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (410, "position_gone")


@pytest.mark.parametrize("position", ["0:99999", "7:0", "nowhere", "0:1,0:2", ","])
def test_a_position_that_is_none(varied: ApiServer, position: str) -> None:
    """A position beyond the log, of no partition, or that is none at all, is refused by name."""
    answer = ask(varied, PATH, params={"after": position, "ends": "true"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "after")


def test_a_slow_reader_is_dropped_and_goes_on(tmp_path: Path) -> None:
    """One that takes nothing is let go while others are served, and gets the rest when it comes back."""
    heavy = [
        event(RunCreated, 0, run_id=f"run_{number}", thread_id="t", instructions="x" * 100_000) for number in range(200)
    ]
    publish_and_fold(tmp_path, heavy)
    with api_server(tmp_path, api_slow=0.3) as server:
        lazy = socket.create_connection((urlsplit(server.url).hostname, urlsplit(server.url).port))
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.sendall(f"GET {PATH}?after=beginning HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        time.sleep(1.5)  # as long as it sleeps, it takes nothing
        assert len(told(server, after="beginning")) > 200
        lazy.settimeout(10)
        taken = b"".join(iter(lambda: lazy.recv(1_000_000), b"")).decode()
        lazy.close()
        assert '"object":"thread.run"' in taken
        ids = [line.removeprefix("id: ") for line in taken.split("\n") if line.startswith("id: ")]
        seen = [each.run["id"] for each in events(taken.splitlines()) if each.name]
        rest = told(server, last=ids[len(seen)])
        assert 0 < len(seen) < 200
        assert sorted([*seen, *runs_of(rest)]) == sorted(one.run_id for one in heavy)
        server.stop()
        assert any("feed_reader_dropped" in line for line in server.said)


def test_open_streams_keep_no_server_from_ending(tmp_path: Path) -> None:
    """A server that is told to stop ends its streams as answers end, and does not wait for readers to leave."""
    publish_and_fold(tmp_path, life("run_a"))
    with api_server(tmp_path) as server, following(server) as stream:
        next(stream)
        begun = time.monotonic()
        server.stop(signal.SIGTERM)
        assert list(stream) == []
        assert time.monotonic() - begun < DRAIN_SECONDS
