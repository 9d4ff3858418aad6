"""Properties of the codec: what goes in comes out on both wires, and no bytes whatever make it raise."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack, structs

from runfold_schemas import Event, Malformed, RunCreated, RunRequiresAction, Unknown, decode, encode, encode_json
from runfold_schemas.codec import decode_lean
from runfold_schemas.lean import LeanRunCreated, LeanRunRequiresAction, bytes_of_created, created_of_bytes
from runfold_schemas.required_action import canonical_action
from runfold_schemas.testing import broken, random_bytes, random_event

NO_ENVELOPE = {"id": "", "run_id": "", "occurred_at": 0, "source": None, "sequence": None, "approximate": False}
decode_object = msgpack.Decoder(dict[str, Any]).decode
randoms = st.randoms(use_true_random=False)


@given(randoms)
def test_both_wires_give_back_the_event(rng: Random) -> None:
    """An event encoded as MessagePack or as JSON decodes to an equal event."""
    event = random_event(rng)
    assert decode(encode(event)) == event
    assert decode(encode_json(event)) == event


@given(randoms)
def test_encoding_is_stable(rng: Random) -> None:
    """An event that has passed through a codec has the same bytes as before."""
    value = encode(random_event(rng))
    assert encode(decode(value)) == value


@given(st.binary(max_size=200))
def test_random_bytes_never_raise(value: bytes) -> None:
    """Whatever the bytes, the answer is an event, unknown or malformed."""
    assert isinstance(decode(value), (Event, Unknown, Malformed))


@given(randoms)
def test_mutated_events_never_raise(rng: Random) -> None:
    """An event broken in any number of places is answered, and what still counts as an event is one on both wires."""
    value = random_bytes(rng)
    answer = decode(value)
    assert isinstance(answer, (Event, Unknown, Malformed))
    if isinstance(answer, Event):
        assert decode(encode(answer)) == answer
        assert decode(encode_json(answer)) == answer


def test_five_thousand_broken_values_are_all_answered() -> None:
    """Breaking a valid value thousands of times over never makes the codec raise."""
    rng = Random(20260826)
    for _ in range(5_000):
        value = broken(encode(random_event(rng)), rng)
        assert isinstance(decode(value), (Event, Unknown, Malformed))


@given(randoms)
def test_lean_decoding_agrees(rng: Random) -> None:
    """The fold's lean way of reading takes and refuses the same bytes, and says the same of them."""
    value = random_bytes(rng)
    whole, lean = decode(value), decode_lean(value)
    if isinstance(whole, RunCreated):
        assert isinstance(lean, LeanRunCreated)
        assert created_of_bytes(bytes_of_created(lean)) == structs.replace(whole, **NO_ENVELOPE)
    elif isinstance(whole, RunRequiresAction):
        assert isinstance(lean, LeanRunRequiresAction)
        assert decode_object(canonical_action(lean.required_action)) == whole.required_action
    elif isinstance(whole, Malformed):
        assert isinstance(lean, Malformed)
        assert (lean.run_id, lean.source, lean.sequence) == (whole.run_id, whole.source, whole.sequence)
    else:
        assert lean == whole
