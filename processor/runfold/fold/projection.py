"""The Run that people read, from a run's state. Everything here is looks: nothing decides, nothing is remembered."""

from __future__ import annotations

from typing import Any

from msgspec import defstruct, json, msgpack, structs, to_builtins

from runfold.fold.state import ShownState
from runfold_schemas.events import JsonObject
from runfold_schemas.lean import LeanRunCreated, bytes_of_created, parts_of_created
from runfold_schemas.run import Run, RunStatus

_COMPLETED = (RunStatus.COMPLETED, RunStatus.INCOMPLETE)
_decode_action = msgpack.Decoder(JsonObject).decode
_encode_json = json.Encoder().encode
_NOBODY = bytes_of_created(LeanRunCreated(run_id="", thread_id=""))
_WIRE = {status: status.wire for status in RunStatus}
_STATUSES = {status.value: status for status in RunStatus}
_FIELDS = Run.__struct_fields__
_Encodable = defstruct("_Encodable", [(name, Any) for name in _FIELDS], gc=False)
"""As :class:`Run`, for encoding alone: made by position."""


def run_of(state: ShownState) -> Run:
    """The Run as it stands. What ``created`` has not told is ``""``, ``[]``, ``{}`` or null, by the contract's type."""
    return Run(**dict(zip(_FIELDS, _values(state, *_told(state)), strict=True)))


def encode_run(state: ShownState) -> bytes:
    """The Run as JSON: :func:`project`, encoded without the detour over dictionaries where nothing lies beyond the contract."""
    return _encode_json(encodable(state))


def encodable(state: ShownState) -> Any:
    """What msgspec encodes as the Run, alone or as a part of something else."""
    said, beside = _told(state)
    return project(state) if beside.extra else _Encodable(*_values(state, said, beside))


def project(state: ShownState) -> dict[str, Any]:
    """The Run as a JSON-able dictionary, with what publishers told beyond the contract (``extra``) beside it."""
    run: dict[str, Any] = to_builtins(structs.asdict(run_of(state)))
    return {**(_told(state)[1].extra or {}), **run}


def _told(state: ShownState) -> tuple[Any, Any]:
    """What ``created`` told, in its two parts."""
    return parts_of_created(_NOBODY if state.created is None else state.created)


def _values(state: ShownState, said: Any, beside: Any) -> tuple[Any, ...]:
    """The values of a Run's fields, in their order: by name, so many cost twice as much to hand over."""
    status = _STATUSES.get(state.status) or RunStatus(state.status)  # the latter raises, and costs five times as much
    ended_at = None if state.ended_at is None else state.ended_at // 1000
    metadata = beside.metadata if state.metadata is None else state.metadata
    return (
        state.run_id,
        state.first_at // 1000,  # created_at
        state.thread_id,
        said.assistant_id or "",
        _WIRE[status],
        "thread.run",  # object
        None if state.started_at is None else state.started_at // 1000,
        beside.expires_at if ended_at is None else None,
        ended_at if status is RunStatus.CANCELLED else None,  # cancelled_at
        ended_at if status is RunStatus.FAILED else None,  # failed_at
        ended_at if status in _COMPLETED else None,  # completed_at
        None if state.required_action is None else _decode_action(state.required_action),
        state.last_error,
        said.model or "",
        said.instructions,
        said.tools or [],
        said.tool_resources,
        metadata or {},
        said.temperature,
        said.top_p,
        said.reasoning_effort,
        said.max_completion_tokens,
        said.max_prompt_tokens,
        said.truncation_strategy,
        state.incomplete_details,
        state.usage,
        said.response_format,
        said.tool_choice,
        said.parallel_tool_calls,
    )
