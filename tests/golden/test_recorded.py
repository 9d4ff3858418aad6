"""Runs recorded from the real service: captured and folded, they are at every step what was recorded, field by field.

There are no exceptions: see README.md beside this file.
"""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import pytest
from run_contract import SHARED, run_validator

from runfold.capture import Captured, Finished, Problem, capture, snapshot
from runfold.fold.projection import project
from runfold.fold.run import fold
from runfold.fold.state import RunState

SHUFFLES = 40

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no recorded Runs at {SHARED}: set RUNFOLD_SHARED")

Body = dict[str, Any]


def recorded() -> dict[str, list[Body]]:
    """Bodies in the order in which they were seen: by run where they were polled, by file where they were streamed.

    Read without the code under test, which the result is compared with.
    """
    sequences: dict[str, list[Body]] = defaultdict(list)
    for path in sorted((SHARED / "data" / "runs").glob("recorded__*")):
        sequences[path.name.split("__")[2]].append(json.loads(path.read_text()))
    for path in sorted((SHARED / "data" / "streams").glob("recorded__*")):
        lines = path.read_text().splitlines()
        data = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
        sequences[path.stem] = [body for body in data if body["object"] == "thread.run"]
    return sequences


RECORDED = recorded()
each_sequence = pytest.mark.parametrize("bodies", RECORDED.values(), ids=RECORDED.keys())
doc_examples = pytest.mark.parametrize(
    "path", sorted((SHARED / "data").glob("*/doc-example__*")), ids=lambda path: path.name
)


def folded(bodies: list[Body], state: RunState | None = None) -> tuple[RunState, list[str]]:
    outcomes = []
    for body in bodies:
        told = snapshot(body)
        assert told.complaints == []
        for event in told.events:
            state, outcome = fold(state, event)
            outcomes.append(outcome)
    assert state is not None
    return state, outcomes


def test_everything_recorded_is_found() -> None:
    """Sixty polled states of eighteen runs and eight streams are under test."""
    streams = [name for name in RECORDED if name.startswith("recorded__")]
    assert (len(RECORDED) - len(streams), len(streams)) == (18, 8)
    assert sum(len(bodies) for name, bodies in RECORDED.items() if name not in streams) == 60


@each_sequence
def test_every_step_is_the_recorded_run(bodies: list[Body]) -> None:
    """After each body the projection is that body: the same fields, no more and no fewer, with the same values."""
    state = None
    for body in bodies:
        state, _ = folded([body], state)
        assert project(state) == body


@each_sequence
def test_every_projection_keeps_to_the_contract(bodies: list[Body]) -> None:
    """After each event the projection validates against the user's contract."""
    validator = run_validator()
    state = None
    for body in bodies:
        for event in snapshot(body).events:
            state, _ = fold(state, event)
            validator.validate(project(state))


@each_sequence
def test_any_order_gives_the_last_state(bodies: list[Body]) -> None:
    """However the bodies of a run are shuffled, the Run ends up as the last one recorded."""
    for seed in range(SHUFFLES):
        shuffled = Random(seed).sample(bodies, len(bodies))
        assert project(folded(shuffled)[0]) == bodies[-1], f"seed {seed}"


@each_sequence
def test_missed_states_do_no_harm(bodies: list[Body]) -> None:
    """Whichever bodies a poll has missed, the Run is as the last one it has seen."""
    for count in range(1, len(bodies) + 1):
        for seen in combinations(bodies, count):
            assert project(folded(list(seen))[0]) == seen[-1]


@each_sequence
def test_capturing_twice_changes_nothing(bodies: list[Body]) -> None:
    """The same bodies again are duplicates, every event of them, in any order."""
    state, _ = folded(bodies)
    before = project(state)
    state, outcomes = folded(Random(1).sample(bodies, len(bodies)), state)
    assert set(outcomes) == {"duplicate"}
    assert project(state) == before


def captured(path: Path) -> list[Captured | Problem | Finished]:
    return list(capture([str(path)], "sse" if path.suffix == ".sse" else "runs"))


@pytest.mark.parametrize("path", sorted((SHARED / "data").glob("*/recorded__*")), ids=lambda path: path.name)
def test_recorded_files_are_understood_whole(path: Path) -> None:
    """Every recorded file is read without a problem, and gives what its bodies give."""
    found = captured(path)
    assert [item for item in found if isinstance(item, Problem)] == []
    bodies = RECORDED[path.stem] if path.suffix == ".sse" else [json.loads(path.read_text())]
    events = [event for item in found if isinstance(item, Captured) for event in item.events]
    assert events == [event for body in bodies for event in snapshot(body).events]


@doc_examples
def test_documentation_examples_do_no_harm(path: Path) -> None:
    """An example out of the documentation is captured, or told as a problem with file and line; its events fold."""
    found = captured(path)
    assert isinstance(found[-1], Finished)
    broken = [item for item in found if isinstance(item, Problem)]
    assert all(item.file == str(path) and item.line and item.message for item in broken)
    assert bool(broken) == (path.suffix == ".sse" or path.stem.endswith("run_abc123__03_queued")), (
        "all documented streams are abridged, and one documented Run is queued and completed at once"
    )
    for item in found:
        if isinstance(item, Captured):
            state = None
            for event in item.events:
                state, _ = fold(state, event)


def test_resumed_stream_stands_alone() -> None:
    """A stream that resumes after tool outputs has no `created`, and still gives the whole Run."""
    resumed = [bodies for name, bodies in RECORDED.items() if name.endswith("__02") and "ToolCall" in name]
    assert resumed
    for bodies in resumed:
        assert bodies[0]["started_at"] is not None
        assert project(folded(bodies)[0]) == bodies[-1]


def test_stream_and_its_resumption_are_one_run() -> None:
    """A stream and the one that resumes it fold into one Run, in either order."""
    first, second = (RECORDED[f"recorded__dotnet__StreamingToolCall_Async__0{part}"] for part in (1, 2))
    assert first[0]["id"] == second[0]["id"]
    assert project(folded(first + second)[0]) == second[-1]
    assert project(folded(second + first)[0]) == second[-1]
