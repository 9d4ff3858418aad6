"""Old shapes: each leads to a current struct, and a chain with a gap does not start."""

from __future__ import annotations

import msgspec
import pytest

from runfold_schemas import BrokenChain, Codec, Event, Malformed, RunCompleted, Upcaster, Usage, decode
from runfold_schemas.upcast import UPCASTERS


class Paused(Event, frozen=True, tag="thread.run.paused"):
    """Version 1 of a fact."""

    why: str = ""


class Paused2(Event, frozen=True, tag="thread.run.paused.2"):
    """Version 2: the reason became a code."""

    code: int = 0


class Paused3(Event, frozen=True, tag="thread.run.paused.3"):
    """Version 3: the code became a list."""

    codes: list[int] = []  # noqa: RUF012 - msgspec copies it


def second(old: Paused) -> Paused2:
    return Paused2(
        run_id=old.run_id, thread_id=old.thread_id, id=old.id, occurred_at=old.occurred_at, code=len(old.why)
    )


def third(old: Paused2) -> Paused3:
    return Paused3(run_id=old.run_id, thread_id=old.thread_id, id=old.id, occurred_at=old.occurred_at, codes=[old.code])


CHAIN = (Upcaster(Paused, Paused2, second), Upcaster(Paused2, Paused3, third))
ENVELOPE = {"id": "e1", "run_id": "r", "thread_id": "t", "occurred_at": 1_760_000_000_000}


def test_draft_of_completed_is_read() -> None:
    """The shape drafted before the first release comes out as today's, its total summed."""
    value = {
        "type": "thread.run.completed.0",
        **ENVELOPE,
        "source": "s",
        "sequence": 3,
        "usage": {"input_tokens": 5, "output_tokens": 2},
    }
    usage = Usage(prompt_tokens=5, completion_tokens=2, total_tokens=7)
    assert decode(msgspec.msgpack.encode(value)) == RunCompleted(**ENVELOPE, source="s", sequence=3, usage=usage)
    assert decode(msgspec.json.encode(value)) == RunCompleted(**ENVELOPE, source="s", sequence=3, usage=usage)


def test_unknown_usage_stays_unknown() -> None:
    """An old shape without usage becomes a current one without usage, never with zeros."""
    assert decode(msgspec.msgpack.encode({"type": "thread.run.completed.0", **ENVELOPE})) == RunCompleted(**ENVELOPE)


def test_upcast_events_obey_the_rules_of_today() -> None:
    """What an upcaster makes is checked like anything from the wire: a total beyond 2**53 is malformed."""
    value = {"type": "thread.run.completed.0", **ENVELOPE, "usage": {"input_tokens": 2**53, "output_tokens": 1}}
    answer = decode(msgspec.msgpack.encode(value))
    assert isinstance(answer, Malformed)
    assert answer.run_id == "r"


def test_chain_leads_all_the_way_up() -> None:
    """A shape two versions old passes through both upcasters."""
    codec = Codec([Paused3], upcasters=CHAIN)
    assert codec.decode(codec.encode(Paused(**ENVELOPE, why="why"))) == Paused3(**ENVELOPE, codes=[3])


@pytest.mark.parametrize(
    ("current", "chain", "complaint"),
    [
        ([Paused2], (), "nothing upcasts thread.run.paused:"),
        ([Paused3], CHAIN[1:], "nothing upcasts thread.run.paused:"),
        ([Paused3], CHAIN[:1], "neither a current event nor upcast"),
        ([Paused3], (*CHAIN, Upcaster(Paused3, Paused, lambda old: old)), "not the next version"),
        ([Paused3], (Upcaster(Paused, Paused3, third),), "not the next version"),
        ([Paused2, Paused], CHAIN[:1], "both a current event and upcast"),
    ],
)
def test_gap_in_the_chain_is_refused(current: list[type[Event]], chain: tuple[Upcaster, ...], complaint: str) -> None:
    """A codec whose old versions do not all lead to a current one cannot be made, and says which is missing."""
    with pytest.raises(BrokenChain, match=complaint):
        Codec(current, upcasters=chain)


def test_upcasters_are_pure() -> None:
    """Upcasting the same event twice gives the same event."""
    step = UPCASTERS[0]
    old = step.old(**ENVELOPE)
    assert step.upcast(old) == step.upcast(old)
