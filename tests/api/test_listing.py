"""Lists of a thread as the client pages through them, and polling a run until it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_serving import ApiServer, api_server, ask, client_of, publish_and_fold
from fold_stories import event, usage

from runfold_schemas import Event, RunCompleted, RunCreated, RunInProgress

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the client says so of all its run methods

RUNS = 1_000


def created(name: str, at: float, *, thread_id: str = "thread_1") -> Event:
    return event(RunCreated, at, run_id=name, thread_id=thread_id)


def many() -> list[Event]:
    """A thousand runs of one thread, several of them in each second."""
    return [created(f"run_{number}", number // 7) for number in range(RUNS)]


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Where the runs are: the folder and, where it is not there, the store."""
    store = {} if request.param == "sqlite" else {"store": request.getfixturevalue("postgres_url")}
    return {"folder": tmp_path, **store}


@pytest.fixture
def server(place: dict[str, Any]) -> Iterator[ApiServer]:
    publish_and_fold(told=many(), **place)
    with api_server(**place) as made:
        yield made


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server whose runs stay as they are."""
    folder = tmp_path_factory.mktemp("still")
    publish_and_fold(folder, many()[:200])
    with api_server(folder) as made:
        yield made


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_paging_misses_none_and_repeats_none_while_new_ones_arrive(
    server: ApiServer, place: dict[str, Any], order: Any
) -> None:
    """Iterating in either order, while others are created in the same thread, gives each run that was there once."""
    found = list[str]()
    for run in client_of(server).beta.threads.runs.list("thread_1", order=order, limit=37):
        found.append(run.id)
        if len(found) in (100, 500):
            publish_and_fold(told=[created(f"run_new_{len(found)}_{n}", 10_000 + n) for n in range(50)], **place)
    old = [run_id for run_id in found if "new" not in run_id]
    assert len(found) == len(set(found))
    assert sorted(old) == sorted(f"run_{number}" for number in range(RUNS))
    assert old == sorted(old, key=_age, reverse=order == "desc")


def _age(run_id: str) -> tuple[int, str]:
    return int(run_id.rpartition("_")[2]) // 7, run_id


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_iterating_up_to_a_run_gives_all_in_front_of_it(still: ApiServer, order: Any) -> None:
    """With ``before`` alone the client pages from the beginning of the list up to that run, and does not reach it."""
    client = client_of(still)
    whole = [run.id for run in client.beta.threads.runs.list("thread_1", order=order, limit=100)]
    found = [run.id for run in client.beta.threads.runs.list("thread_1", order=order, limit=7, before=whole[30])]
    assert found == whole[:30]


def test_after_and_before_give_what_lies_between(still: ApiServer) -> None:
    """Both cursors together are the intersection of what each gives."""
    client = client_of(still)
    whole = [run.id for run in client.beta.threads.runs.list("thread_1", limit=100)]
    page = client.beta.threads.runs.list("thread_1", after=whole[10], before=whole[20])
    assert [run.id for run in page.data] == whole[11:20]
    assert not page.has_more


def test_a_page_says_where_it_begins_and_ends(still: ApiServer) -> None:
    """first_id, last_id and has_more are those of the page; an empty one has none of them."""
    page = ask(still, "/v1/threads/thread_1/runs?limit=2").json()
    assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][1]["id"])
    assert page["has_more"] is True
    empty = ask(still, "/v1/threads/thread_2/runs").json()
    assert (empty["data"], empty["first_id"], empty["last_id"], empty["has_more"]) == ([], None, None, False)


def test_the_long_way_answers_as_the_short_cut_does(still: ApiServer) -> None:
    """The framework's own routes answer what the short cut past them answers; a slash at the end misses the short cut."""
    for path in ("/v1/threads/thread_1/runs", "/v1/threads/thread_1/runs/run_7", "/v1/threads/thread_1/runs/none"):
        short, long = ask(still, path), ask(still, f"{path}/")
        assert (short.status_code, _still(short.json())) == (long.status_code, _still(long.json()))
        assert set(short.headers) == set(long.headers)
    bad = "/v1/threads/thread_1/runs{}?limit=0"
    short, long = ask(still, bad.format("")), ask(still, bad.format("/"))
    assert short.json()["error"].keys() == long.json()["error"].keys()
    assert short.json()["error"]["param"] == long.json()["error"]["param"] == "limit"


def _still(body: dict[str, Any]) -> dict[str, Any]:
    """Without what is different from one second to the next."""
    return {name: value for name, value in body.items() if name != "runfold"}


@pytest.mark.parametrize("run_id", ["run/1", "run 1", "rün%1", "run?&=#1"])
def test_ids_come_percent_encoded(tmp_path: Path, run_id: str) -> None:
    """The client encodes what is in an id, and finds the run that has it."""
    publish_and_fold(tmp_path, [created(run_id, 0, thread_id="thread/ö 1")])
    with api_server(tmp_path) as server:
        found = client_of(server).beta.threads.runs.retrieve(run_id, thread_id="thread/ö 1")
    assert found.id == run_id


def test_polling_ends_when_the_run_does(tmp_path: Path) -> None:
    """The client's own poll asks as often as it is told to, and returns the run once it has ended."""
    publish_and_fold(tmp_path, [created("run_1", 0), event(RunInProgress, 1)])

    def end_it() -> None:
        time.sleep(1)
        publish_and_fold(tmp_path, [event(RunCompleted, 2, usage=usage())])

    with api_server(tmp_path) as server:
        asked = ask(server, "/v1/threads/thread_1/runs/run_1")
        assert 100 <= int(asked.headers["openai-poll-after-ms"]) <= 1_000
        ending = threading.Thread(target=end_it)
        ending.start()
        found = client_of(server).beta.threads.runs.poll("run_1", thread_id="thread_1")
        ending.join()
        assert "openai-poll-after-ms" not in ask(server, "/v1/threads/thread_1/runs/run_1").headers
    assert found.status == "completed"


def test_the_beta_header_is_neither_needed_nor_minded(still: ApiServer) -> None:
    """What the client sends beside a run call changes nothing."""
    path = "/v1/threads/thread_1/runs/run_1"
    with_it = ask(still, path, headers={"OpenAI-Beta": "assistants=v2"})
    assert with_it.json() == ask(still, path).json()
