"""Files to events: what is passed over, what is told, and that the rest goes on."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from runfold.capture import Captured, Finished, Problem, capture, snapshot
from runfold_schemas import RunIncomplete

BodyWith = Callable[..., dict[str, Any]]


def sse(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


def read(text: str | bytes, kind: str) -> list[Captured | Problem | Finished]:
    data = text.encode() if isinstance(text, str) else text
    return list(capture(["-"], kind, stdin=io.BytesIO(data)))


def test_stream_gives_its_bodies_in_order(body: BodyWith) -> None:
    """Every Run body of a stream is captured where it stands; steps, messages and the end's mark are counted only."""
    text = (
        sse("thread.run.created", body(status="queued", completed_at=None))
        + sse("thread.run.step.created", {"id": "step_1", "object": "thread.run.step", "status": "in_progress"})
        + sse("thread.message.delta", {"object": "thread.message.delta"})
        + sse("thread.run.completed", body())
        + "event: done\ndata: [DONE]\n\n"
    )
    assert read(text, "sse") == [
        Captured("standard input", 2, snapshot(body(status="queued", completed_at=None)).events),
        Captured("standard input", 11, snapshot(body()).events),
        Finished("standard input", bodies=2, passed_over=3),
    ]


def test_status_is_trusted_not_the_event_name(body: BodyWith) -> None:
    """An event called completed whose data says incomplete is incomplete."""
    found = read(sse("thread.run.completed", body(status="incomplete")), "sse")
    assert isinstance(found[0], Captured)
    assert isinstance(found[0].events[-1], RunIncomplete)


def test_run_is_known_by_its_name_where_it_does_not_say(body: BodyWith) -> None:
    """Servers that leave out `object` are understood by the event's name."""
    anonymous = {name: value for name, value in body().items() if name != "object"}
    assert isinstance(read(sse("thread.run.completed", anonymous), "sse")[0], Captured)
    assert read(sse("thread.run.step.completed", anonymous), "sse") == [Finished("standard input", 0, 1)]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ('event: thread.run.created\ndata: {"id": \n\n', 2, "thread.run.created is no JSON"),
        (b'event: thread.run.created\ndata: {"id": "\xff"}\n\n', 2, "no JSON"),
        ("event: thread.run.created\ndata: 5\n\n", 2, "no Run"),
        (sse("thread.run.created", {"object": "thread.run"}), 2, "id is missing"),
        ("\nwhat is this\n", 2, "no line of a server-sent stream"),
    ],
)
def test_broken_stream_is_told_and_goes_on(body: BodyWith, text: str | bytes, line: int, message: str) -> None:
    """What cannot be understood of a stream is told with file and line, and what follows is captured."""
    data = text.encode() if isinstance(text, str) else text
    found = read(data + sse("thread.run.completed", body()).encode(), "sse")
    problem = found[0]
    assert isinstance(problem, Problem)
    assert (problem.file, problem.line) == ("standard input", line)
    assert message in problem.message
    assert [type(item) for item in found[-2:]] == [Captured, Finished]


def test_page_of_the_api_is_its_runs(body: BodyWith) -> None:
    """A saved list is captured Run by Run."""
    page = {"object": "list", "data": [body(), body(id="run_2")], "has_more": False}
    found = read(json.dumps(page, indent=2), "runs")
    assert [item.events for item in found if isinstance(item, Captured)] == [
        snapshot(body()).events,
        snapshot(body(id="run_2")).events,
    ]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"id": "msg_1", "object": "thread.message"}, "thread.message"),
        ({"object": "list", "data": "none"}, "no Run"),
        ({"object": "list", "data": [5]}, "no Run"),
        ({}, "id is missing"),
    ],
)
def test_what_is_no_run_is_told(value: Any, message: str) -> None:
    """An object that is no Run is told with its line."""
    found = read("\n" + json.dumps(value), "runs")
    assert isinstance(found[0], Problem)
    assert found[0].line == 2
    assert any(message in item.message for item in found if isinstance(item, Problem))


def test_file_that_cannot_be_read_is_told(tmp_path: Path, body: BodyWith) -> None:
    """A missing file is told, and the next one is read."""
    there = tmp_path / "there.json"
    there.write_text(json.dumps(body()))
    found = list(capture([str(tmp_path / "missing.json"), str(tmp_path), str(there)], "runs"))
    assert [type(item) for item in found] == [Problem, Problem, Captured, Finished]
    assert str(found[0]).endswith("missing.json: cannot be read: No such file or directory")


def test_problems_read_like_those_of_a_compiler() -> None:
    """A problem is shown as file, line and message, which editors can jump to."""
    assert str(Problem("runs.jsonl", 7, "no JSON")) == "runs.jsonl:7: no JSON"


@pytest.mark.parametrize("kind", ["sse", "runs"])
def test_mutilated_files_never_raise(kind: str, body: BodyWith) -> None:
    """However a file is mutilated, it is read to its end."""
    whole = (sse("thread.run.completed", body()) * 3 if kind == "sse" else json.dumps(body(), indent=1) * 3).encode()
    rng = Random(11)
    for _ in range(300):
        begin, end = sorted((rng.randrange(len(whole)), rng.randrange(len(whole))))
        text = rng.choice(
            (whole[:begin] + whole[end:], whole[:begin] + rng.randbytes(5) + whole[begin:], whole[begin:end])
        )
        assert isinstance(read(text, kind)[-1], Finished)
