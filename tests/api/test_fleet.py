"""Runs across threads, and what only runfold knows of them; over every store that answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from api_serving import ApiServer, add_key, api_server, ask, publish_and_fold
from fold_stories import START, event, usage

from runfold.log.port import Message
from runfold_schemas import RunCompleted, RunCreated, RunFailed, RunInProgress

NOW = int(time.time()) - START
"""Now, in the stories' seconds."""


def story() -> list[Any]:
    """Runs of two models and projects, one that is past its expiry, one silent, one incomplete, one with a gap, a letter."""

    def created(name: str, at: float, **fields: Any) -> Any:
        return event(RunCreated, at, run_id=name, thread_id=f"thread_of_{name}", **fields)

    def done(name: str, at: float, kind: Any = RunCompleted) -> Any:
        return event(kind, at, run_id=name, thread_id=f"thread_of_{name}", usage=usage())

    return [
        created("run_old", 0, model="o3", metadata={"project_id": "proj_2"}),
        done("run_old", 5),
        created("run_failed", 10),
        done("run_failed", 15, RunFailed),
        created("run_silent", 20),
        created("run_expired", NOW - 50, expires_at=START + NOW - 10),
        created("run_young", NOW - 1, expires_at=START + NOW + 36_000),
        event(RunInProgress, 30, run_id="run_headless", thread_id="thread_x"),
        event(RunCreated, NOW - 30, run_id="run_gap", thread_id="thread_x", source="a", sequence=1),
        event(RunInProgress, NOW - 20, run_id="run_gap", thread_id="thread_x", source="a", sequence=4),
        Message(b"run_failed", b"broken"),
    ]


class Fleet:
    """A server over the story, and an admin's key."""

    def __init__(self, server: ApiServer, key: str) -> None:
        self.server, self.key = server, key

    def ask(self, path: str, **options: Any) -> Any:
        answer = ask(self.server, f"/v1/runfold/{path}", key=self.key, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ids(self, path: str) -> list[str]:
        return [known["run"]["id"] for known in self.ask(path)["data"]]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    store = {}
    if request.param == "postgresql":
        database = request.getfixturevalue("postgres_database")
        store = {"store": f"{database}{'&' if '?' in database else '?'}schema=fleet"}
    folder = tmp_path_factory.mktemp("fleet")
    publish_and_fold(folder, story(), **store)
    key = add_key(folder, "admin", **store)
    with api_server(folder, **store) as server:
        yield Fleet(server, key)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ("status=completed", ["run_old"]),
        ("status=failed", ["run_failed"]),
        ("model=o3", ["run_old"]),
        ("project_id=proj_2", ["run_old"]),
        ("assistant_id=nobody", []),
        ("thread_id=thread_of_run_old", ["run_old"]),
        ("incomplete=true", ["run_headless"]),
        ("missing=true", ["run_gap"]),
        (f"created_before={START + 20}", ["run_failed", "run_old"]),
        (f"created_before={START + 21}&order=asc&limit=2", ["run_old", "run_failed"]),
        (f"created_after={START}&created_before={START + 20}", ["run_failed"]),
        ("created_after={recent}", ["run_young", "run_gap"]),
    ],
)
def test_runs_are_filtered(fleet: Fleet, filters: str, expected: list[str]) -> None:
    """By status, model, assistant, project, thread and age, newest first, and by what is wanting."""
    assert fleet.ids(f"runs?{filters.format(recent=START + NOW - 40)}") == expected


@pytest.mark.parametrize("filters", ["order=asc", "order=desc", "model=gpt-4o"])
def test_pages_of_all_runs_make_up_the_whole(fleet: Fleet, filters: str) -> None:
    """Going on by next_cursor gives every run once, until there is no more."""
    whole, found, cursor = fleet.ids(f"runs?{filters}&limit=100"), list[str](), ""
    while True:
        page = fleet.ask(f"runs?{filters}&limit=2{cursor}")
        found += [known["run"]["id"] for known in page["data"]]
        if not page["has_more"]:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == whole


def test_stuck_runs_are_told_with_the_reason(fleet: Fleet) -> None:
    """Past their expires_at, or silent for too long; oldest first. Ended and young ones are not among them."""
    stuck = {run["run"]["id"]: run["why"] for run in fleet.ask("stuck-runs?silent=36000")["data"]}
    assert stuck == {"run_silent": ["silent"], "run_headless": ["silent"], "run_expired": ["expired"]}
    assert list(stuck) == ["run_silent", "run_headless", "run_expired"]


def test_looking_at_stuck_runs_changes_none(fleet: Fleet) -> None:
    """A run that is stuck stays as its events told it: the view invents none."""
    fleet.ask("stuck-runs")
    assert fleet.ask("runs/run_expired")["run"]["status"] == "queued"
    assert len(fleet.ask("runs/run_expired/history")["data"]) == 1


def test_all_that_is_known_of_a_run(fleet: Fleet) -> None:
    """The Run, its timeline, flags, gaps, and where it lies in the log."""
    known = fleet.ask("runs/run_gap")
    assert known["flags"] == ["missing"]
    assert [(gap["first"], gap["last"]) for gap in known["missing"]] == [(2, 3)]
    assert [entry["status"] for entry in known["timeline"]] == ["created", "in_progress"]
    assert known["heard_at"] == (START + NOW - 20) * 1000
    assert (known["split"], known["last_offset"] > known["first_offset"]) == (False, True)


def test_a_history_tells_what_each_record_did(fleet: Fleet) -> None:
    """Every record of the run with its outcome, what it changed and what it added to usage, the rejected one too."""
    records = fleet.ask("runs/run_failed/history")["data"]
    assert [(record["type"], record["outcome"]) for record in records] == [
        ("thread.run.created", "applied"),
        ("thread.run.failed", "applied"),
        (None, "rejected"),
    ]
    assert records[1]["changed"]["status"] == {"before": "queued", "after": "failed"}
    assert records[1]["usage"][0]["added"]["total_tokens"] == 15
    assert records[1]["usage"][0]["project_id"] is None


def test_a_letter_is_shown_with_its_bytes(fleet: Fleet) -> None:
    """Why it was rejected, and all that it holds."""
    (listed,) = fleet.ask("dead-letters?run_id=run_failed&discarded=true")["data"]
    whole = fleet.ask(f"dead-letters/{listed['partition']}:{listed['offset']}")
    assert (whole["reason"], whole["value"], whole["key"]) == ("malformed", "broken", "run_failed")


def test_a_retry_says_what_it_does(fleet: Fleet) -> None:
    """Retrying a letter that today's code rejects again changes nothing, and says so; a dry run says the same."""
    (letter,) = fleet.ask("dead-letters?run_id=run_failed&discarded=true")["data"]
    for query in ("?dry_run=true", ""):
        path = f"dead-letters/{letter['partition']}:{letter['offset']}/retry{query}"
        done = fleet.ask(path, method="POST")
        assert done["run_id"] == "run_failed"
        assert done["changes_nothing"] is True
        assert done["parts"][0]["letters_after"] == 1


def test_a_discarded_letter_is_listed_no_more(fleet: Fleet) -> None:
    """The note says why; the letter is still there for who asks for discarded ones."""
    (letter,) = fleet.ask("dead-letters?discarded=true")["data"]
    place = f"dead-letters/{letter['partition']}:{letter['offset']}"
    assert fleet.ask(f"{place}/discard", method="POST", json={"reason": "known"})["discarded"] == "known"
    assert fleet.ask("dead-letters")["data"] == []
    assert fleet.ask("dead-letters?discarded=true")["data"][0]["discarded"] == "known"
    bad = ask(fleet.server, f"/v1/runfold/{place}/discard", method="POST", key=fleet.key, json={"reason": ""})
    assert bad.status_code == 400
