"""Requests made up from our own OpenAPI document: none brings the server down, and every answer keeps the document's word."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from api_serving import ApiServer, add_key, api_server, ask, publish_and_fold
from fold_stories import START, event, usage
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS

from runfold.log.port import Message
from runfold_schemas import RunCompleted, RunCreated, RunInProgress

HELD_TO = [
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_headers_conformance", "response_schema_conformance"),
]
FEW, MANY = 12, 400
"""Requests made up for each operation, that are valid, and as many that are not."""


class Answering:
    """A server with something of everything, and an admin's key to it."""

    def __init__(self, server: ApiServer, key: str) -> None:
        self.server, self.key = server, key
        self.headers = {"authorization": f"Bearer {key}"}
        schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json", headers=self.headers)
        self.operations = {told.ok().label: told.ok() for told in schema.get_all_operations()}

    def hold(self, *, examples: int) -> int:
        """Ask every operation so many things of each kind, and hold the answers to the document; returns how many."""
        asked = 0
        checks = [CHECKS.get_one(name) for name in HELD_TO]
        for operation in self.operations.values():
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

                @settings(
                    max_examples=examples,
                    deadline=None,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                )
                @given(case=operation.as_strategy(generation_mode=mode))
                def hold_one(case: Any) -> None:
                    nonlocal asked
                    asked += 1
                    case.call_and_validate(checks=checks, headers=self.headers)

                hold_one()
        return asked


@pytest.fixture(scope="module")
def answering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answering]:
    folder = tmp_path_factory.mktemp("openapi")
    told: list[Any] = [event(RunCreated, 0), event(RunInProgress, 1), event(RunCompleted, 2, usage=usage())]
    told += [event(RunInProgress, 1, run_id="run_2"), Message(b"run_1", b"\x00"), Message(b"\xff", b"{}")]
    publish_and_fold(folder, told)
    key = add_key(folder, "admin")
    with api_server(folder, api_stream=0.2) as server:
        yield Answering(server, key)


def test_every_operation_is_named_once(answering: Answering) -> None:
    """The document is served, and its operations have names of their own, by which clients can be made."""
    document = ask(answering.server, "/openapi.json", key=answering.key).json()
    names = [told["operationId"] for path in document["paths"].values() for told in path.values()]
    assert len(names) == len(set(names)) == len(answering.operations)


def test_what_is_real_is_told_as_documented(answering: Answering) -> None:
    """Answers about things that are there, which made-up requests hardly hit, keep to the document too."""
    real = {
        "GET /v1/threads/{thread_id}/runs": ({"thread_id": "thread_1"}, {}),
        "GET /v1/threads/{thread_id}/runs/{run_id}": ({"thread_id": "thread_1", "run_id": "run_1"}, {}),
        "GET /v1/runfold/runs": ({}, {"limit": 5}),
        "GET /v1/runfold/runs/{run_id}": ({"run_id": "run_1"}, {}),
        "GET /v1/runfold/runs/{run_id}/history": ({"run_id": "run_1"}, {}),
        "GET /v1/runfold/stuck-runs": ({}, {"silent": 0.001}),
        "GET /v1/runfold/dead-letters": ({}, {}),
        "GET /v1/runfold/status": ({}, {}),
        "GET /v1/runfold/feed": ({}, {"after": "beginning", "ends": "true"}),
        "GET /v1/organization/usage/completions": ({}, {"start_time": START - 60, "group_by[]": ["model", "status"]}),
        "GET /v1/organization/costs": ({}, {"start_time": START - 60, "group_by[]": ["line_item"]}),
    }
    letters = ask(answering.server, "/v1/runfold/dead-letters", key=answering.key).json()["data"]
    place = next(f"{letter['partition']}:{letter['offset']}" for letter in letters if letter["run_id"])
    real["GET /v1/runfold/dead-letters/{place}"] = ({"place": place}, {})
    real["POST /v1/runfold/dead-letters/{place}/retry"] = ({"place": place}, {})
    for label, (path, query) in real.items():
        case = answering.operations[label].Case(path_parameters=path, query=query)
        answer = case.call_and_validate(checks=[CHECKS.get_one(name) for name in HELD_TO], headers=answering.headers)
        assert answer.status_code == 200, label


def test_made_up_requests_are_answered_as_documented(answering: Answering) -> None:
    """A few of each operation: no fault of the server's, and no answer beside the document."""
    assert answering.hold(examples=FEW) >= FEW * len(answering.operations)


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_thousands_of_made_up_requests_are_answered_as_documented(answering: Answering) -> None:
    """As above, thousands of them."""
    assert answering.hold(examples=MANY) >= 5_000
