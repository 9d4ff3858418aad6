"""Bytes of every event type, as they were once written: they decode for ever, and encoders still write them.

A file is never changed. A new type or version adds two: ``python tests/golden/test_wire.py`` writes those that are missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runfold_schemas import (
    EVENT_TYPES,
    Event,
    RunCancelled,
    RunCancelling,
    RunCompleted,
    RunCreated,
    RunExpired,
    RunFailed,
    RunIncomplete,
    RunInProgress,
    RunModified,
    RunQueued,
    RunRequiresAction,
    RunUsageCorrected,
    TokenDetails,
    Usage,
    decode,
    encode,
    encode_json,
)
from runfold_schemas.upcast import UPCASTERS, RunCompletedVersion0, UsageVersion0, tag_of

WIRE = Path(__file__).with_name("wire")

USAGE = Usage(
    prompt_tokens=627,
    completion_tokens=34,
    total_tokens=661,
    prompt_token_details=TokenDetails(cached_tokens=512),
    completion_tokens_details=TokenDetails(reasoning_tokens=8),
)
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"place":"Tromsø"}'}}


def envelope(number: int) -> dict[str, Any]:
    return {
        "run_id": "run_6aoVDZ7Q3E3gsHKyjIR2ydXX",
        "thread_id": "thread_Q1yKHOMIqQaRApLIyDkJgISP",
        "id": f"0199f0c2-7e6a-7000-8000-{number:012d}",
        "occurred_at": 1_761_861_679_000 + number,
        "source": "platform-7f3a",
        "sequence": number,
    }


WRITTEN: tuple[tuple[Event, Event | None], ...] = (
    (
        RunCreated(
            **envelope(1),
            assistant_id="asst_LtiaO4m2KzcEDhNxZLOWffZY",
            model="gpt-4o",
            instructions="Answer in Norwegian: «ja» eller «nei».",
            tools=[
                {"type": "code_interpreter"},
                {"type": "function", "function": {"name": "get_weather", "strict": False}},
            ],
            metadata={"project_id": "proj_1", "user_id": "user_1", "api_key_id": "key_1"},
            expires_at=1_761_862_279,
            temperature=0.7,
            top_p=1.0,
            max_prompt_tokens=10_000,
            max_completion_tokens=2_000,
            truncation_strategy={"type": "last_messages", "last_messages": 10},
            response_format={"type": "json_object"},
            tool_choice="auto",
            parallel_tool_calls=True,
            reasoning_effort="low",
            tool_resources={"file_search": {"vector_store_ids": ["vs_1"]}},
            extra={"service_tier": "flex", "nested": [None, True, -1, 2.5, 2**63]},
        ),
        None,
    ),
    (RunQueued(**envelope(2)), None),
    (RunInProgress(**envelope(3), approximate=True), None),
    (
        RunRequiresAction(
            **envelope(4),
            required_action={"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": [CALL]}},
        ),
        None,
    ),
    (RunCancelling(**envelope(5)), None),
    (RunCancelled(**envelope(6)), None),
    (RunFailed(**envelope(7), usage=USAGE, last_error={"code": "server_error", "message": "Sorry."}), None),
    (RunCompleted(**envelope(8), usage=USAGE), None),
    (RunIncomplete(**envelope(9), usage=USAGE, incomplete_details={"reason": "max_completion_tokens"}), None),
    (RunExpired(**envelope(10), usage=Usage(prompt_tokens=0, completion_tokens=0, total_tokens=0)), None),
    (RunModified(**envelope(11), metadata={"project_id": "proj_2"}), None),
    (RunUsageCorrected(**envelope(12), usage=USAGE, reason="the provider's invoice"), None),
    (
        RunCompletedVersion0(**envelope(13), usage=UsageVersion0(input_tokens=627, output_tokens=34)),
        RunCompleted(**envelope(13), usage=Usage(prompt_tokens=627, completion_tokens=34, total_tokens=661)),
    ),
)
"""Each event as it is written, and the event it is read as where that is another."""

by_type = pytest.mark.parametrize(("written", "read"), WRITTEN, ids=[tag_of(type(event)) for event, _ in WRITTEN])


def paths(event: Event) -> tuple[Path, Path]:
    return WIRE / f"{tag_of(type(event))}.msgpack", WIRE / f"{tag_of(type(event))}.json"


def test_every_type_and_version_is_kept() -> None:
    """There are golden bytes of every event type, of every old shape, and of nothing else."""
    kept = {type(event) for event, _ in WRITTEN}
    assert kept == {*EVENT_TYPES, *(step.old for step in UPCASTERS)}
    assert {path for event, _ in WRITTEN for path in paths(event)} == set(WIRE.iterdir())


@by_type
def test_golden_bytes_decode(written: Event, read: Event | None) -> None:
    """Bytes written by any version decode to what they said, in today's shape."""
    for path in paths(written):
        assert decode(path.read_bytes()) == (read or written)


@by_type
def test_golden_bytes_are_still_written(written: Event, read: Event | None) -> None:
    """Encoders write what they always wrote, to the byte."""
    message, text = paths(written)
    assert encode(written) == message.read_bytes()
    assert encode_json(written) == text.read_bytes()


if __name__ == "__main__":
    WIRE.mkdir(exist_ok=True)
    for event, _ in WRITTEN:
        for path, value in zip(paths(event), (encode(event), encode_json(event)), strict=True):
            if not path.exists():
                path.write_bytes(value)
