"""The Run that people read, from a run's state. Everything here is looks: nothing decides, nothing is remembered."""

from __future__ import annotations

from typing import Any

from msgspec import json, msgpack, structs, to_builtins

from runfold.fold.state import RunState
from runfold_schemas.events import JsonObject, RunCreated
from runfold_schemas.lean import SETTINGS, created_of_bytes
from runfold_schemas.run import Run, RunStatus

_COMPLETED = (RunStatus.COMPLETED, RunStatus.INCOMPLETE)
_decode_action = msgpack.Decoder(JsonObject).decode
_encode_json = json.Encoder().encode
_NOBODY = RunCreated(run_id="", thread_id="")


def run_of(state: RunState) -> Run:
    """The Run as it stands. What ``created`` has not told is ``""``, ``[]``, ``{}`` or null, by the contract's type."""
    created = _NOBODY if state.created is None else created_of_bytes(state.created)
    status = RunStatus(state.status)
    ended_at = None if state.ended_at is None else state.ended_at // 1000
    return Run(
        id=state.run_id,
        created_at=state.created_at,
        thread_id=state.thread_id,
        assistant_id=created.assistant_id,
        status=status.wire,
        started_at=None if state.started_at is None else state.started_at // 1000,
        expires_at=created.expires_at if ended_at is None else None,
        cancelled_at=ended_at if status is RunStatus.CANCELLED else None,
        failed_at=ended_at if status is RunStatus.FAILED else None,
        completed_at=ended_at if status in _COMPLETED else None,
        required_action=None if state.required_action is None else _decode_action(state.required_action),
        last_error=state.last_error,
        model=created.model,
        instructions=created.instructions,
        tools=created.tools,
        metadata=created.metadata if state.metadata is None else state.metadata,
        incomplete_details=state.incomplete_details,
        usage=state.usage,
        **{name: getattr(created, name) for name in SETTINGS},
    )


def encode_run(state: RunState) -> bytes:
    """The Run as JSON: :func:`project`, encoded without the detour over dictionaries where nothing lies beyond the contract."""
    if state.created is not None and created_of_bytes(state.created).extra:
        return _encode_json(project(state))
    return _encode_json(run_of(state))


def project(state: RunState) -> dict[str, Any]:
    """The Run as a JSON-able dictionary, with what publishers told beyond the contract (``extra``) beside it."""
    run: dict[str, Any] = to_builtins(structs.asdict(run_of(state)))
    extra = {} if state.created is None else created_of_bytes(state.created).extra
    return {**extra, **run}
