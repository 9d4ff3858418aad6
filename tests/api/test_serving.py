"""The processes that answer: beside a service, several on one port, and what they refuse to begin with."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from pathlib import Path

import psutil
import pytest
from api_serving import ApiServer, add_key, api_server, ask, publish_and_fold
from fold_stories import event
from serving import fill, messages, server

from runfold_schemas import RunCreated

LISTED = "/v1/threads/thread_1/runs"


async def test_serve_answers_beside_the_fold(tmp_path: Path) -> None:
    """``runfold serve`` answers from the store that it has just made, and neither process outlives the other."""
    await fill(tmp_path, messages([event(RunCreated, 0)]))
    async with server(tmp_path, api_port=0) as serving:
        await serving.start(api=True)
        url = (await serving.said("api_listening"))["url"]
        async with asyncio.timeout(20):
            while not (listed := await asyncio.to_thread(_listed, url)):  # noqa: ASYNC110 - another process's doing
                await asyncio.sleep(0.1)
        assert listed == ["run_1"]
        workers = psutil.Process(serving.pid).children(recursive=True)
        await serving.stop(signal.SIGKILL)
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive


def _listed(url: str) -> list[str]:
    import httpx2

    with contextlib.suppress(httpx2.TransportError):
        answer = httpx2.get(url + LISTED, timeout=5)
        return [run["id"] for run in answer.json().get("data", [])]
    return []


def workers_of(pid: int) -> set[int]:
    """The processes that answer; beside them Python keeps one that tracks resources."""
    children = [child for child in psutil.Process(pid).children() if child.status() != psutil.STATUS_ZOMBIE]
    return {child.pid for child in children if "spawn_main" in " ".join(child.cmdline())}


def test_workers_share_a_port_and_are_replaced(tmp_path: Path) -> None:
    """Several processes answer on one port; one that is killed is replaced, and answers go on."""
    publish_and_fold(tmp_path, [event(RunCreated, 0)])
    with api_server(tmp_path, "--workers", "2") as made:
        assert ask(made, LISTED).status_code == 200
        time.sleep(5.5)  # a worker that dies younger is taken to have met what the next would meet too
        before = workers_of(made.pid)
        psutil.Process(min(before)).kill()
        deadline = time.monotonic() + 20
        while not (new := workers_of(made.pid) - before) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert new
        assert ask(made, LISTED).status_code == 200
        assert made.stop() == 0


def test_a_missing_store_is_told(tmp_path: Path) -> None:
    """Without a store there is nothing to answer from: exit code 3, and the message says who makes one."""
    with pytest.raises(AssertionError, match=r"ended with 3.*runfold serve"):
        ApiServer(tmp_path)


def test_strangers_need_keys(tmp_path: Path) -> None:
    """Beyond loopback the server begins only where there are keys, or where somebody says that none is needed."""
    publish_and_fold(tmp_path, [])
    with pytest.raises(AssertionError, match=r"ended with 2.*runfold keys create.*--insecure"):
        ApiServer(tmp_path, "--host", "0.0.0.0")
    with api_server(tmp_path, "--host", "0.0.0.0", "--insecure") as made:
        made.url = made.url.replace("0.0.0.0", "127.0.0.1")
        assert ask(made, LISTED).status_code == 200
    key = add_key(tmp_path, "read")
    with api_server(tmp_path, "--host", "0.0.0.0") as made:
        made.url = made.url.replace("0.0.0.0", "127.0.0.1")
        assert ask(made, LISTED).status_code == 401
        assert ask(made, LISTED, key=key).status_code == 200


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    """The message names the settings, and the exit code is 2."""
    publish_and_fold(tmp_path, [])
    with api_server(tmp_path) as made:
        port = made.url.rpartition(":")[2]
        with pytest.raises(AssertionError, match=r"ended with 2.*RUNFOLD_API_PORT"):
            ApiServer(tmp_path, "--port", port)
