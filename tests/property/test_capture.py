"""Properties of capture: no body makes it raise, and whatever it gives is fit for the log and folds to the same Run."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from runfold.capture import snapshot
from runfold.capture.objects import objects
from runfold.capture.sse import messages
from runfold.fold.run import fold
from runfold_schemas import Run, RunStatus, decode, encode
from runfold_schemas.testing import random_json

randoms = st.randoms(use_true_random=False)
TIMES = (0, None, 1_761_861_679, 1_761_861_690, 1_761_861_700_000, 1_761_861_700.5, 2**70, "soon")


def random_body(rng: Random) -> dict[str, Any]:
    """A body with anything in any field, more often than not something that belongs there."""
    body = {name: random_json(rng) for name in (*Run.__struct_fields__, "unheard_of") if rng.random() < 0.4}
    for name in ("created_at", "started_at", "completed_at", "failed_at", "cancelled_at", "expires_at"):
        if rng.random() < 0.8:
            body[name] = rng.choice(TIMES)
    likely = {"id": "run_1", "thread_id": "t", "status": rng.choice([status.wire for status in RunStatus])}
    return body | {name: value for name, value in likely.items() if rng.random() < 0.9}


@given(randoms)
def test_any_body_is_answered(rng: Random) -> None:
    """Whatever a body holds, capture gives events that the log takes, or says what is wrong, or both."""
    told = snapshot(random_body(rng))
    assert told.events or told.complaints
    assert [decode(encode(event)) for event in told.events] == told.events


@given(randoms)
def test_captured_twice_is_all_duplicates(rng: Random) -> None:
    """Whatever a body holds, the fold takes it once."""
    body = random_body(rng)
    state = None
    for event in snapshot(body).events:
        state, _ = fold(state, event)
    for event in snapshot(body).events:
        state, outcome = fold(state, event)
        assert outcome == "duplicate"


@given(st.lists(st.binary(max_size=60).map(lambda line: line + b"\n"), max_size=8))
def test_any_bytes_are_read_to_their_end(lines: list[bytes]) -> None:
    """No bytes make a reader raise."""
    list(messages(lines))
    list(objects(lines))


@given(st.text(alphabet='{}[]",:\\ \na1', max_size=80))
def test_any_brackets_are_read_to_their_end(text: str) -> None:
    """No arrangement of brackets and quotes makes a reader raise."""
    list(objects(text.encode().splitlines(keepends=True)))
