"""The Run that people read, from a run's state. Everything here is looks: nothing decides, nothing is remembered."""

from __future__ import annotations

from typing import Any

from msgspec import json, msgpack, structs, to_builtins

from runfold.fold.state import RunState
from runfold_schemas.events import JsonObject
from runfold_schemas.lean import LeanRunCreated, bytes_of_created, parts_of_created
from runfold_schemas.run import Run, RunStatus

_COMPLETED = (RunStatus.COMPLETED, RunStatus.INCOMPLETE)
_decode_action = msgpack.Decoder(JsonObject).decode
_encode_json = json.Encoder().encode
_NOBODY = bytes_of_created(LeanRunCreated(run_id="", thread_id=""))
_WIRE = {status: status.wire for status in RunStatus}
_STATUSES = {status.value: status for status in RunStatus}


def run_of(state: RunState) -> Run:
    """The Run as it stands. What ``created`` has not told is ``""``, ``[]``, ``{}`` or null, by the contract's type."""
    return _run(state, *_told(state))


def encode_run(state: RunState) -> bytes:
    """The Run as JSON: :func:`project`, encoded without the detour over dictionaries where nothing lies beyond the contract."""
    said, beside = _told(state)
    if beside.extra:
        return _encode_json(project(state))
    return _encode_json(_run(state, said, beside))


def project(state: RunState) -> dict[str, Any]:
    """The Run as a JSON-able dictionary, with what publishers told beyond the contract (``extra``) beside it."""
    run: dict[str, Any] = to_builtins(structs.asdict(run_of(state)))
    return {**(_told(state)[1].extra or {}), **run}


def _told(state: RunState) -> tuple[Any, Any]:
    """What ``created`` told, in its two parts."""
    return parts_of_created(_NOBODY if state.created is None else state.created)


def _run(state: RunState, said: Any, beside: Any) -> Run:
    status = _STATUSES.get(state.status) or RunStatus(state.status)  # the latter raises, and costs five times as much
    ended_at = None if state.ended_at is None else state.ended_at // 1000
    metadata = beside.metadata if state.metadata is None else state.metadata
    return Run(
        id=state.run_id,
        created_at=state.first_at // 1000,
        thread_id=state.thread_id,
        assistant_id=said.assistant_id or "",
        status=_WIRE[status],
        started_at=None if state.started_at is None else state.started_at // 1000,
        expires_at=beside.expires_at if ended_at is None else None,
        cancelled_at=ended_at if status is RunStatus.CANCELLED else None,
        failed_at=ended_at if status is RunStatus.FAILED else None,
        completed_at=ended_at if status in _COMPLETED else None,
        required_action=None if state.required_action is None else _decode_action(state.required_action),
        last_error=state.last_error,
        model=said.model or "",
        instructions=said.instructions,
        tools=said.tools or [],
        metadata=metadata or {},
        incomplete_details=state.incomplete_details,
        usage=state.usage,
        # Each by its name: told by a loop over SETTINGS they cost as much as all else here.
        temperature=said.temperature,
        top_p=said.top_p,
        max_prompt_tokens=said.max_prompt_tokens,
        max_completion_tokens=said.max_completion_tokens,
        parallel_tool_calls=said.parallel_tool_calls,
        reasoning_effort=said.reasoning_effort,
        truncation_strategy=said.truncation_strategy,
        response_format=said.response_format,
        tool_choice=said.tool_choice,
        tool_resources=said.tool_resources,
    )
