"""What ``required_action`` may be: the contract of the Run, which clients read by these names, and JSON.

The shape that nearly all have is read into typed structs, which needs no checking; anything else is looked at piece by piece.
Both ways lead to the same bytes, keys in order, so that equal actions are equal bytes (a property test holds them together).
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import MsgspecError, Struct, ValidationError, msgpack

from runfold_schemas.json_value import MOST_NESTED, are_json


class _Function(Struct, forbid_unknown_fields=True, gc=False):
    arguments: str
    name: str


class _Call(Struct, forbid_unknown_fields=True, gc=False):
    function: _Function
    id: str
    type: str


class _Outputs(Struct, forbid_unknown_fields=True, gc=False):
    tool_calls: list[_Call]


class _Action(Struct, forbid_unknown_fields=True, gc=False):
    submit_tool_outputs: _Outputs
    type: Literal["submit_tool_outputs"]


_NOTHING: dict[str, Any] = {}
_decode_usual = msgpack.Decoder(_Action).decode
_decode_object = msgpack.Decoder(dict[str, Any]).decode
_encode = msgpack.Encoder().encode  # the fields above stand in the order of their names
_encode_sorted = msgpack.Encoder(order="deterministic").encode


def check_action(action: dict[str, Any]) -> None:
    """Raise ValidationError where an action breaks the contract or holds what JSON cannot express."""
    if not are_json((action,)):
        raise ValidationError(f"required_action holds what JSON cannot express, or more than {MOST_NESTED} levels")
    if action.get("type", "submit_tool_outputs") != "submit_tool_outputs":
        raise ValidationError('required_action.type is not "submit_tool_outputs"')
    outputs = action.get("submit_tool_outputs", _NOTHING)
    if type(outputs) is not dict:
        raise ValidationError("required_action.submit_tool_outputs is no object")
    calls = outputs.get("tool_calls", ())
    if type(calls) not in (list, tuple):
        raise ValidationError("required_action.submit_tool_outputs.tool_calls is no array")
    for call in calls:
        if type(call) is not dict:
            raise ValidationError("required_action.submit_tool_outputs.tool_calls holds what is no object")


def canonical_action(raw: bytes) -> bytes:
    """An action's MessagePack with keys in order. Raises as :func:`check_action` and as decoding does."""
    try:
        return _encode(_decode_usual(raw))
    except (MsgspecError, ValueError):
        action = _decode_object(raw)
        check_action(action)
        return _encode_sorted(action)
