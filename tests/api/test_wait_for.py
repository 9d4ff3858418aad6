"""Reading one's own write: an answer waits until the positions it is asked for are folded."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from api_serving import ApiServer, api_server, ask, publish_and_fold
from feed_reading import told
from fold_stories import event

from runfold.api.positions import PAUSE, Positions
from runfold.log.partitioner import key_hash
from runfold.store.memory import MemoryStore
from runfold_schemas import RunCreated

READS = ["/v1/threads/t/runs/run_a", "/v1/threads/t/runs", "/v1/runfold/runs/run_a", "/v1/runfold/runs"]
CREATED = [event(RunCreated, 0, run_id="run_a", thread_id="t")]


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> dict[str, object]:
    return {} if request.param == "sqlite" else {"store": request.getfixturevalue("postgres_url")}


def test_answers_once_it_is_folded(tmp_path: Path, store: dict[str, object]) -> None:
    """Asked before the fold has come so far, each read answers with what was written up to that position."""
    publish_and_fold(tmp_path, [event(RunCreated, 0, run_id="run_before", thread_id="t")], **store)
    with api_server(tmp_path, **store) as server, ThreadPoolExecutor() as asking:
        partition = key_hash(b"run_a") % 2
        params = {"wait_for": f"{partition}:{_positions(server).get(partition, 0) + 1}", "wait_seconds": "20"}
        answers = [asking.submit(ask, server, path, params=params) for path in READS]
        assert not wait(answers, timeout=0.5).done
        publish_and_fold(tmp_path, CREATED, **store)
        assert all("run_a" in answer.result().text for answer in answers)


def test_says_where_it_is_not_folded(tmp_path: Path) -> None:
    """A position that is not reached in time is told as 504, in OpenAI's shape."""
    publish_and_fold(tmp_path, CREATED)
    with api_server(tmp_path) as server:
        for path in READS:
            answer = ask(server, path, params={"wait_for": "0:999999", "wait_seconds": "0.1"})
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

    positions = Positions(Counted())
    await asyncio.gather(*(positions.until(lambda _: False, seconds=5 * PAUSE) for _ in range(100)))
    assert 2 <= looks <= 8


def _positions(server: ApiServer) -> dict[int, int]:
    return {int(part.split(":")[0]): int(part.split(":")[1]) for part in told(server)[-1].id.split(",")}
