"""A key of one project cannot see, count or infer another's runs, by any route.

Every route of the API is walked. What it answers about something that exists in another project must be, to the letter, what
it answers about something that does not exist at all. A route that this test does not know how to call fails it: add it to
CALLS, with every parameter by which one could ask for something of others.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from api_serving import ApiServer, add_key, api_server, ask, publish_and_fold
from fold_stories import START, event, usage

from runfold.api.api import Api
from runfold.api.app import framework
from runfold.api.log_access import LogAccess
from runfold.api.pages import cursor_of
from runfold.config import load_settings
from runfold.log.port import Message
from runfold.store.memory import MemoryStore
from runfold_schemas import Event, RunCompleted, RunCreated, RunInProgress

MARK = "concealed"
"""Stands in everything that the other project calls its own."""


class Names(NamedTuple):
    """What a caller can name of a project: one run with a dead letter, and what it is of."""

    run: str
    thread: str
    project: str
    model: str
    assistant: str
    letter: str


OWN = Names("run_own", "thread_own", "proj_own", "model-own", "asst_own", "")
OTHERS = Names(f"run_{MARK}", f"thread_{MARK}", f"proj_{MARK}", f"model-{MARK}", f"asst_{MARK}", "")
NOBODYS = Names("run_nobody", "thread_nobody", "proj_nobody", "model-nobody", "asst_nobody", "1:987654")

Call = tuple[str, dict[str, Any]]


def _runs_of_thread(of: Names) -> Iterator[Call]:
    yield f"/v1/threads/{of.thread}/runs", {}
    for name in ("after", "before"):
        yield f"/v1/threads/{OWN.thread}/runs", {"params": {name: of.run}}
        yield f"/v1/threads/{of.thread}/runs", {"params": {name: of.run, "order": "asc"}}


def _run(of: Names) -> Iterator[Call]:
    yield f"/v1/threads/{of.thread}/runs/{of.run}", {}
    yield f"/v1/threads/{OWN.thread}/runs/{of.run}", {}


def _all_runs(of: Names) -> Iterator[Call]:
    for name, value in (
        ("thread_id", of.thread),
        ("project_id", of.project),
        ("model", of.model),
        ("assistant_id", of.assistant),
    ):
        yield "/v1/runfold/runs", {"params": {name: value}}
    yield "/v1/runfold/runs", {"params": {"cursor": cursor_of((2**40, of.run))}}


def _letters(of: Names) -> Iterator[Call]:
    yield "/v1/runfold/dead-letters", {}
    yield "/v1/runfold/dead-letters", {"params": {"run_id": of.run, "discarded": "true"}}


def _feed(of: Names) -> Iterator[Call]:
    whole = {"after": "beginning", "ends": "true"}
    yield "/v1/runfold/feed", {"params": whole}
    for name, value in (("run_id", of.run), ("thread_id", of.thread), ("project_id", of.project)):
        yield "/v1/runfold/feed", {"params": whole | {name: value}}


def _reports(path: str, *more: str) -> Callable[[Names], Iterator[Call]]:
    """A report grouped by all that it can be, whole and with each filter."""

    def calls(of: Names) -> Iterator[Call]:
        # Without an end_time the cursor names this minute, which may be another one when the same is asked for the other.
        period = {"start_time": START - 3600, "end_time": START + 30 * 86_400}
        asked = {**period, "group_by[]": ["project_id", "model", "assistant_id", *more]}
        yield path, {"params": {**asked, "models[]": of.model}}
        yield path, {"params": {**asked, "project_ids[]": [of.project, OWN.project], "models[]": of.model}}
        yield path, {"params": {**asked, "format": "csv", "project_ids[]": of.project}}
        yield path, {"params": {**asked, "as_known_at": int(time.time()), "project_ids[]": of.project}}

    return calls


def _published(of: Names) -> Iterator[Call]:
    yield "/v1/events", {"json": {"type": "thread.run.queued", "run_id": of.run, "thread_id": of.thread}}


CALLS: dict[tuple[str, str], Callable[[Names], Iterator[Call]]] = {
    ("GET", "/v1/threads/{thread_id}/runs"): _runs_of_thread,
    ("GET", "/v1/threads/{thread_id}/runs/{run_id}"): _run,
    ("GET", "/v1/runfold/runs"): _all_runs,
    ("GET", "/v1/runfold/runs/{run_id}"): lambda of: iter([(f"/v1/runfold/runs/{of.run}", {})]),
    ("GET", "/v1/runfold/runs/{run_id}/history"): lambda of: iter([(f"/v1/runfold/runs/{of.run}/history", {})]),
    ("GET", "/v1/runfold/stuck-runs"): lambda of: iter([("/v1/runfold/stuck-runs", {"params": {"silent": "0.001"}})]),
    ("GET", "/v1/runfold/dead-letters"): _letters,
    ("GET", "/v1/runfold/dead-letters/{place}"): lambda of: iter([(f"/v1/runfold/dead-letters/{of.letter}", {})]),
    ("POST", "/v1/runfold/dead-letters/{place}/retry"): lambda of: iter(
        [(f"/v1/runfold/dead-letters/{of.letter}/retry", {"params": {"dry_run": "true"}})]
    ),
    ("POST", "/v1/runfold/dead-letters/{place}/discard"): lambda of: iter(
        [(f"/v1/runfold/dead-letters/{of.letter}/discard", {"json": {"reason": "because"}})]
    ),
    ("GET", "/v1/runfold/feed"): _feed,
    ("GET", "/v1/organization/usage/completions"): _reports("/v1/organization/usage/completions", "status"),
    ("GET", "/v1/organization/costs"): _reports("/v1/organization/costs", "line_item"),
    ("POST", "/v1/events"): _published,
    ("GET", "/v1/runfold/status"): lambda of: iter([("/v1/runfold/status", {})]),
    ("GET", "/"): lambda of: iter([("/", {})]),
    ("GET", "/console/{name}"): lambda of: iter([(f"/console/{of.run}.js", {})]),
    ("GET", "/openapi.json"): lambda of: iter([("/openapi.json", {})]),
    ("GET", "/openapi.json/{path}"): lambda of: iter([("/openapi.json/x", {})]),
    ("GET", "/openapi.json/openapi.json"): lambda of: iter([("/openapi.json/openapi.json", {})]),
}
"""How each route is called, by its method and path: with whatever could name something of a project."""


def life(of: Names, *, ended: bool = True) -> list[Event | Message]:
    """A run that goes well, and a record of it that does not."""
    named: dict[str, Any] = {"run_id": of.run, "thread_id": of.thread}
    told: list[Event | Message] = [
        event(RunCreated, 0, **named, assistant_id=of.assistant, model=of.model, metadata={"project_id": of.project}),
        event(RunInProgress, 1, **named),
        Message(of.run.encode(), f"broken by {of.project}".encode()),
    ]
    return [*told, event(RunCompleted, 2, **named, usage=usage())] if ended else told


class World(NamedTuple):
    """A server, a key of the own project, and the places of both projects' letters in ``own`` and ``others``."""

    server: ApiServer
    key: str
    own: Names
    others: Names


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    store = {} if request.param == "sqlite" else {"store": request.getfixturevalue("postgres_url")}
    unfinished = [names._replace(run=f"{names.run}_open") for names in (OWN, OTHERS)]
    told = [one for names in (OWN, OTHERS) for one in life(names)]
    told += [one for names in unfinished for one in life(names, ended=False)]
    publish_and_fold(tmp_path, told, **store)
    key = add_key(tmp_path, "read", project_id=OWN.project, **store)
    whole = add_key(tmp_path, "read", **store)
    with api_server(tmp_path, **store) as server:
        listed = ask(server, "/v1/runfold/dead-letters", key=whole).json()["data"]
        places = {letter["run_id"]: f"{letter['partition']}:{letter['offset']}" for letter in listed}
        own, others = (names._replace(letter=places[names.run]) for names in (OWN, OTHERS))
        yield World(server, key, own, others)


def routes() -> Iterator[tuple[str, str]]:
    """Method and path of every route there is."""
    app = framework(Api.of(load_settings(environment={}), store=MemoryStore(), log=LogAccess(pytest.fail)))
    for route in app.routes:
        for method in route.methods - {"OPTIONS"}:
            yield method, route.path_format


def told(world: World, method: str, call: Call, of: Names) -> tuple[int, str]:
    """Status and body, with what the caller named itself, the time that passes and the request's id taken out."""
    path, options = call
    answer = ask(world.server, path, method=method, key=world.key, **options)
    body = re.sub(r'"(lag_seconds|silent_seconds)":[0-9.e-]+', "", answer.text)
    for name, value in of._asdict().items():
        body = body.replace(value, f"<{name}>") if value else body
    return answer.status_code, body


def test_every_route_is_walked() -> None:
    """This test knows how to call each route of the API, and none that is gone."""
    assert set(routes()) == CALLS.keys()


def test_what_is_others_is_as_if_it_were_not(world: World) -> None:
    """Asked for something of another project, each route answers what it answers for something that does not exist."""
    for (method, path), calls in CALLS.items():
        for theirs, nobodys in zip(calls(world.others), calls(NOBODYS), strict=True):
            answer = told(world, method, theirs, world.others)
            assert answer == told(world, method, nobodys, NOBODYS), f"{method} {path}: {theirs}"
            assert MARK not in answer[1], f"{method} {path}: {theirs}"


def test_what_is_ones_own_is_found(world: World) -> None:
    """Asked for something of the key's own project, the routes that read answer with it: the walk above is not in vain."""
    found = set()
    for (method, path), calls in CALLS.items():
        for called, options in calls(world.own):
            answer = ask(world.server, called, method=method, key=world.key, **options)
            if answer.status_code == 200 and (world.own.run in answer.text or world.own.model in answer.text):
                found.add((method, path))
    told_of_runs = {key for key in CALLS if key[0] == "GET" and key[1].startswith("/v1/")}
    assert found == told_of_runs - {("GET", "/v1/runfold/status")}  # which is of the whole, and closed to the key


def test_counts_of_the_whole_are_not_told(world: World) -> None:
    """How much is wanting among all runs is told to no confined key, neither in bodies nor in headers."""
    answer = ask(world.server, "/v1/runfold/runs", key=world.key)
    assert answer.json()["runfold"].keys() >= {"incomplete", "missing", "rejected", "without_usage"}
    assert {answer.json()["runfold"][name] for name in ("incomplete", "missing", "rejected", "without_usage")} == {None}
    assert not {"x-runfold-incomplete", "x-runfold-missing", "x-runfold-rejected"} & set(answer.headers)
