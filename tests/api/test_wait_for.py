"""Reading one's own write: an answer waits until the positions it is asked for are folded."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from api_serving import ApiServer, api_server, ask, publish_and_fold
from feed_reading import positions, told
from fold_stories import event

from runfold.api.positions import PAUSE, Positions
from runfold.log.partitioner import key_hash
from runfold.store.memory import MemoryStore
from runfold_schemas import RunCreated

READS = ["/v1/threads/t/runs/run_a", "/v1/threads/t/runs", "/v1/runfold/runs/run_a", "/v1/runfold/runs"]
REPORTS = ["/v1/organization/usage/completions", "/v1/organization/costs"]
CREATED = [event(RunCreated, 0, run_id="run_a", thread_id="t")]


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> dict[str, object]:
    return {} if request.param == "sqlite" else {"store": request.getfixturevalue("postgres_url")}


def test_answers_once_it_is_folded(tmp_path: Path, store: dict[str, object]) -> None:
    """Asked before the fold has come so far, each read answers with what was written up to that position."""
    publish_and_fold(tmp_path, [event(RunCreated, 0, run_id="run_before", thread_id="t")], **store)
    with api_server(tmp_path, **store) as server, ThreadPoolExecutor() as asking:
        partition = key_hash(b"run_a") % 2
        params = {
            "wait_for": f"{partition}:{positions(told(server)[-1].id).get(partition, 0) + 1}",
            "wait_seconds": "20",
        }
        answers = [asking.submit(ask, server, path, params=params) for path in READS]
        assert not wait(answers, timeout=0.5).done
        publish_and_fold(tmp_path, CREATED, **store)
        assert all("run_a" in answer.result().text for answer in answers)
        told_position = answers[0].result().headers["x-runfold-position"]
        assert positions(told_position)[partition] >= int(params["wait_for"].split(":")[1])


def test_what_a_publish_answers_can_be_waited_for(tmp_path: Path) -> None:
    """The position that publishing answers, as it came, is what a read waits for."""
    publish_and_fold(tmp_path, CREATED)
    body = {"type": "thread.run.created", "run_id": "run_b", "thread_id": "t"}
    with api_server(tmp_path) as server:
        position = ask(server, "/v1/events", method="POST", json=body).json()["position"]
        late = ask(server, READS[3], params={"wait_for": json.dumps(position), "wait_seconds": "0.1"})
        publish_and_fold(tmp_path, [])
        answer = ask(server, READS[3], params={"wait_for": json.dumps(position)})
        assert (late.status_code, answer.status_code) == (504, 200)
        assert "run_b" in answer.text


def test_says_where_it_is_not_folded(tmp_path: Path) -> None:
    """A position that is not reached in time is told as 504, in OpenAI's shape."""
    publish_and_fold(tmp_path, CREATED)
    with api_server(tmp_path) as server:
        for path in (*READS, *REPORTS):
            params = {"wait_for": "0:999999", "wait_seconds": "0.1"} | ({"start_time": "0"} if path in REPORTS else {})
            answer = ask(server, path, params=params)
            assert answer.status_code == 504, path
            assert answer.json()["error"].items() >= {"param": "wait_for", "code": "position_not_reached"}.items()


@pytest.mark.parametrize("wrong", [{"wait_for": "x"}, {"wait_for": "0:1", "wait_seconds": "9999"}])
def test_what_cannot_be_waited_for(server: ApiServer, wrong: dict[str, str]) -> None:
    """A position that is none, or too long a wait, is refused."""
    assert ask(server, READS[1], params=wrong).status_code == 400


async def test_waiters_share_their_looks() -> None:
    """A hundred who wait ask the store no more often than one does."""
    looks = 0

    class Counted(MemoryStore):
        async def partitions(self):  # type: ignore[no-untyped-def]
            nonlocal looks
            looks += 1
            return await super().partitions()

    asked = Positions(Counted())
    await asyncio.gather(*(asked.until(lambda _: False, seconds=5 * PAUSE) for _ in range(100)))
    assert 2 <= looks <= 8
