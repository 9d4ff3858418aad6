"""What the codec makes of values that are not plainly events of today."""

from __future__ import annotations

import gc
from typing import Any

import msgspec
import pytest

from runfold_schemas import (
    Event,
    Malformed,
    RunCompleted,
    RunCreated,
    RunInProgress,
    RunRequiresAction,
    Unknown,
    Usage,
    decode,
    encode,
    encode_json,
)

pack = msgspec.msgpack.encode
ENVELOPE = {"id": "e1", "run_id": "run_1", "thread_id": "thread_1", "occurred_at": 1_760_000_000_000}


def told(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"thread.run.{kind}", **ENVELOPE, **fields}


def created_with(**fields: Any) -> Event | Unknown | Malformed:
    return decode(pack(told("created", **fields)))


def test_null_value_is_malformed() -> None:
    """A null value, which compacted topics use for deletion, is malformed and says so."""
    answer = decode(None)
    assert isinstance(answer, Malformed)
    assert "tombstone" in answer.detail


@pytest.mark.parametrize(
    "value", [b"", b" ", b"\xef\xbb\xbf", b"{", b"[]", b'"x"', b"null", b"\x80", b"\xc0", b"\x93\x01"]
)
def test_what_is_no_object_is_malformed(value: bytes) -> None:
    """Bytes that hold no object, whole or begun, are malformed."""
    assert isinstance(decode(value), Malformed)


def test_trailing_bytes_are_malformed() -> None:
    """A value is one event: what follows it makes it malformed, on either wire."""
    event = RunInProgress(**ENVELOPE)
    assert isinstance(decode(encode(event) + b"\x00"), Malformed)
    assert isinstance(decode(encode_json(event) + b"x"), Malformed)


@pytest.mark.parametrize("preamble", [b" ", b"\r\n\t", b"\xef\xbb\xbf", b"\xef\xbb\xbf  "])
def test_json_may_have_a_preamble(preamble: bytes) -> None:
    """JSON is recognised behind white space and a byte order mark."""
    event = RunInProgress(**ENVELOPE)
    assert decode(preamble + encode_json(event) + b"\n") == event


def test_unknown_type_tells_its_origin() -> None:
    """A type of a newer publisher is unknown, and its run, source and number are read all the same."""
    answer = decode(pack(told("paused", source="s", sequence=7)))
    assert answer == Unknown("thread.run.paused", "run_1", "s", 7)


def test_malformed_tells_its_origin() -> None:
    """A known type with a wrong field is malformed, and its run, source and number are read all the same."""
    answer = decode(pack(told("completed", usage=7, source="s", sequence=7)))
    assert answer == Malformed("Expected `object | null`, got `int` - at `$.usage`", "run_1", "s", 7)


@pytest.mark.parametrize("sequence", [0, -1, True, 1.0, "1", 2**53 + 1])
def test_sequence_out_of_range_is_not_told(sequence: Any) -> None:
    """A number that cannot be one is None in what a malformed value tells of itself."""
    answer = decode(pack(told("queued", sequence=sequence)))
    assert isinstance(answer, Malformed)
    assert answer.sequence is None


@pytest.mark.parametrize(
    "origin", [{"run_id": 5, "source": []}, {"run_id": "", "source": ""}, {"run_id": "r" * 257, "source": "s" * 65}]
)
def test_origin_of_a_wrong_shape_is_not_told(origin: dict[str, Any]) -> None:
    """A run or source that cannot be one is None in what an unknown value tells of itself."""
    assert decode(pack(told("paused") | origin)) == Unknown("thread.run.paused", None, None, None)


@pytest.mark.parametrize("missing", ["id", "occurred_at", "run_id", "thread_id", "type"])
def test_envelope_is_required(missing: str) -> None:
    """On the log an event names its type, id, run, thread and time: null or nothing there is malformed."""
    whole = told("queued")
    left_out = {name: value for name, value in whole.items() if name != missing}
    assert isinstance(decode(pack(left_out)), Malformed)
    assert isinstance(decode(pack(whole | {missing: None})), Malformed)


def test_null_in_an_optional_field_is_left_out() -> None:
    """A field that may be left out may as well be null."""
    optional = [name for name in RunCreated.__struct_fields__ if name not in ENVELOPE]
    assert decode(pack(told("created", **dict.fromkeys(optional)))) == RunCreated(**ENVELOPE)
    assert decode(msgspec.json.encode(told("created", **dict.fromkeys(optional)))) == RunCreated(**ENVELOPE)


@pytest.mark.parametrize(
    "fields",
    [
        told("modified", metadata=None),
        told("requires_action", required_action=None),
        told("usage_corrected", usage=None),
        told("completed", usage={"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": None}),
        told("completed", usage={"prompt_tokens": 1, "completion_tokens": 1}),
    ],
)
def test_null_in_a_required_field_is_malformed(fields: dict[str, Any]) -> None:
    """What an event is about, and each of the three token counts, cannot be null."""
    assert isinstance(decode(pack(fields)), Malformed)


def test_unknown_fields_are_ignored() -> None:
    """A field added by a newer publisher does not keep an older reader from the rest."""
    assert decode(pack(told("queued", colour={"a": [1]}))) == decode(pack(told("queued")))


@pytest.mark.parametrize("count", [-1, 2**53 + 1, 1.0, True, "1", None])
def test_token_counts_are_integers_in_range(count: Any) -> None:
    """Tokens are counted from 0 to 2**53, by integers alone."""
    assert isinstance(
        decode(pack(told("completed", usage={"prompt_tokens": count, "completion_tokens": 1, "total_tokens": 1}))),
        Malformed,
    )


@pytest.mark.parametrize(
    "value",
    [
        {"a": b"bytes"},
        {"a": {1: 2}},
        {"a": {(1,): 2}},
        {"a": float("nan")},
        {"a": [float("inf")]},
        {"a": msgspec.msgpack.Ext(5, b"x")},
        {"a": msgspec.Raw(b"\xd6\xff\x00\x00\x00\x00")},
    ],
    ids=["bytes", "integer key", "array key", "nan", "infinity", "extension", "timestamp"],
)
@pytest.mark.parametrize("field", ["metadata", "extra", "response_format", "tool_choice", "tools", "tool_resources"])
def test_what_json_cannot_express_is_malformed(field: str, value: Any) -> None:
    """A free-form field holds JSON, because the Run it becomes part of is shown as JSON."""
    answer = created_with(**{field: [value] if field == "tools" else value})
    assert isinstance(answer, Malformed)
    assert answer.detail.startswith(f"{field} holds") or "key" in answer.detail


@pytest.mark.parametrize("field", ["temperature", "top_p"])
def test_settings_are_finite(field: str) -> None:
    """A setting that is no number is malformed, for JSON has none such."""
    assert isinstance(created_with(**{field: float("nan")}), Malformed)


@pytest.mark.parametrize(("levels", "verdict"), [(100, RunCreated), (101, Malformed)])
def test_depth_is_bounded_by_a_number(levels: int, verdict: type) -> None:
    """Free-form values nest up to 100 levels, wherever the codec is called from."""
    nested: Any = {}
    for _ in range(levels - 1):
        nested = {"a": nested}
    assert type(created_with(metadata=nested)) is verdict


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1a", b"["])
def test_bottomless_values_are_malformed(opening: bytes) -> None:
    """A value that never stops opening lists or objects is malformed."""
    assert isinstance(decode(opening * 100_000), Malformed)
    assert isinstance(decode(b'{"a":' + opening * 100_000), Malformed)


@pytest.mark.parametrize(
    "header", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"]
)
def test_claimed_sizes_are_not_believed(header: bytes) -> None:
    """A value that claims four thousand million items, and has none, is malformed at no cost."""
    assert isinstance(decode(header), Malformed)
    assert isinstance(decode(b"\x81\xa5tools" + header), Malformed)


@pytest.mark.parametrize(
    "text",
    [
        b'{"type": "thread.run.queued", "id": "\\ud800", "run_id": "r", "thread_id": "t", "occurred_at": 1}',
        b'{"type": "thread.run.queued", "id": "\xed\xa0\x80", "run_id": "r", "thread_id": "t", "occurred_at": 1}',
        b'{"type": "thread.run.created", "extra": {"a": 123456789012345678901234567890}}',
        b'{"type": "thread.run.created", "extra": {"a": 1e999}}',
        b'{"type": "thread.run.created", "extra": {"a": NaN}}',
        b'{"a":' + b"1" * 5000 + b"}",
    ],
    ids=["lone surrogate", "encoded surrogate", "beyond 64 bits", "beyond a float", "nan", "a number of 5000 digits"],
)
def test_json_beyond_both_wires_is_malformed(text: bytes) -> None:
    """JSON that MessagePack or Python cannot hold is malformed, whatever it is in."""
    assert isinstance(decode(text), Malformed)


@pytest.mark.parametrize(
    "action",
    [
        {"type": "approve"},
        {"type": None},
        {"submit_tool_outputs": []},
        {"submit_tool_outputs": {"tool_calls": {}}},
        {"submit_tool_outputs": {"tool_calls": ["call"]}},
    ],
)
def test_required_action_keeps_to_the_contract(action: dict[str, Any]) -> None:
    """A required action that clients of the Run could not read is malformed."""
    assert isinstance(decode(pack(told("requires_action", required_action=action))), Malformed)


@pytest.mark.parametrize(
    "action",
    [{}, {"type": "submit_tool_outputs", "submit_tool_outputs": {}}, {"submit_tool_outputs": {"tool_calls": []}}],
)
def test_required_action_may_leave_out_what_the_contract_leaves_open(action: dict[str, Any]) -> None:
    """The contract requires none of a required action's properties, so neither does the codec."""
    assert decode(pack(told("requires_action", required_action=action))) == RunRequiresAction(
        **ENVELOPE, required_action=action
    )


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"\xc1",
        b"{",
        pack({"type": 1}),
        pack(told("dreamt")),
        pack(told("completed", usage=1)),
        pack(told("completed", usage=1, last_error=None)),
        encode_json(RunInProgress(**ENVELOPE)).replace(b"run_1", b""),
    ],
)
def test_nothing_is_left_to_the_collector(value: bytes | None) -> None:
    """A value that is no event leaves no cycle, which would keep its caller's batch in memory until it is collected."""
    gc.collect()
    gc.disable()
    try:
        decode(value)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_defaults_are_not_written() -> None:
    """An event's bytes hold what it says and nothing else."""
    usage = Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    written = msgspec.msgpack.decode(encode(RunCompleted(**ENVELOPE, usage=usage)))
    assert written == told("completed", usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3})
