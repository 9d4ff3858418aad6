"""Both ways of reading a required action lead to the same bytes."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack

from runfold_schemas.required_action import canonical_action

encode_sorted = msgpack.Encoder(order="deterministic").encode
words = st.text(max_size=5)


@given(st.randoms(use_true_random=False), st.lists(st.tuples(words, words, words, words), max_size=3))
def test_the_usual_shape_has_the_bytes_of_any_shape(rng: Random, calls: list[tuple[str, str, str, str]]) -> None:
    """Whatever the order of keys, an action of the usual shape comes out as its sorted map does."""
    told = [
        shuffled({"id": name, "type": kind, "function": shuffled({"name": function, "arguments": text}, rng)}, rng)
        for name, kind, function, text in calls
    ]
    outputs = {"submit_tool_outputs": {"tool_calls": told}, "type": "submit_tool_outputs"}
    action = shuffled(outputs, rng)
    assert canonical_action(msgpack.encode(action)) == encode_sorted(action)


def shuffled(told: dict[str, object], rng: Random) -> dict[str, object]:
    items = list(told.items())
    rng.shuffle(items)
    return dict(items)
