"""OpenAI's own client, pointed at us, reads the runs that were recorded from the real service as they were recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from api_serving import ApiServer, api_server, client_of, publish_and_fold
from run_contract import SHARED

from runfold.capture import snapshot

pytestmark = [
    pytest.mark.skipif(not SHARED.is_dir(), reason=f"no recorded Runs at {SHARED}: set RUNFOLD_SHARED"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the client says so of all its run methods
]


def last_bodies() -> dict[str, dict[str, Any]]:
    """The last body that was seen of each recorded run, by run id. Read without the code under test."""
    paths = sorted((SHARED / "data" / "runs").glob("recorded__*"))
    return {body["id"]: body for body in (json.loads(path.read_text()) for path in paths)}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server that has every recorded run, from all the bodies that were polled of it."""
    folder = tmp_path_factory.mktemp("recorded")
    paths = sorted((SHARED / "data" / "runs").glob("recorded__*"))
    told = [event for path in paths for event in snapshot(json.loads(path.read_text())).events]
    publish_and_fold(folder, told)
    with api_server(folder) as made:
        yield made


def test_a_retrieved_run_is_the_recorded_one(recorded: ApiServer) -> None:
    """Every property that was recorded comes back through the client, equal."""
    client = client_of(recorded)
    for run_id, body in last_bodies().items():
        found = client.beta.threads.runs.retrieve(run_id, thread_id=body["thread_id"]).to_dict()
        assert {name: found[name] for name in body} == body


def test_a_listed_run_is_the_recorded_one(recorded: ApiServer) -> None:
    """The list of a run's thread has the same objects."""
    client = client_of(recorded)
    for run_id, body in last_bodies().items():
        listed = {run.id: run.to_dict() for run in client.beta.threads.runs.list(body["thread_id"])}
        assert {name: listed[run_id][name] for name in body} == body


def test_a_run_of_another_thread_is_not_found(recorded: ApiServer) -> None:
    """The client raises its NotFoundError, with OpenAI's words and our request id, where the thread is not the run's."""
    run_id = next(iter(last_bodies()))
    with pytest.raises(openai.NotFoundError, match=f"No run found with id '{run_id}'") as raised:
        client_of(recorded).beta.threads.runs.retrieve(run_id, thread_id="thread_of_somebody")
    assert raised.value.type == "invalid_request_error"
    assert raised.value.request_id


def test_a_bad_parameter_is_named(recorded: ApiServer) -> None:
    """A limit that cannot be is a BadRequestError whose param says so."""
    with pytest.raises(openai.BadRequestError) as raised:
        client_of(recorded).beta.threads.runs.list("thread_x", limit=101)
    assert raised.value.param == "limit"
