"""19,366 requests that a cloud provider recorded, as runs: what they used is known to the last token."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runfold_schemas import Event, RunCompleted, RunCreated, RunInProgress, Usage

SHARED = Path(os.environ.get("RUNFOLD_SHARED", Path(__file__).parents[3] / "shared"))
TRACE = SHARED / "data" / "traces" / "AzureLLMInferenceTrace_conv.csv"
needs_trace = pytest.mark.skipif(
    not TRACE.is_file(), reason=f"NOT PROVEN: no trace at {TRACE}; set RUNFOLD_SHARED to its data"
)

Minutes = dict[int, tuple[int, int, int]]


def requests() -> list[tuple[int, int, int]]:
    """(Unix milliseconds, prompt tokens, completion tokens) of every line."""
    with TRACE.open(newline="") as file:
        return [
            (_milliseconds(line["TIMESTAMP"]), int(line["ContextTokens"]), int(line["GeneratedTokens"]))
            for line in csv.DictReader(file)
        ]


def _milliseconds(text: str) -> int:
    # Seven decimals, one more than datetime reads.
    moment = datetime.strptime(text[:26], "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1000 + moment.microsecond // 1000


def events_of(number: int, request: tuple[int, int, int]) -> list[Event]:
    at, prompt, completion = request
    common = {"run_id": f"run_{number}", "thread_id": f"thread_{number}", "occurred_at": at, "source": "trace"}
    used = Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)
    return [
        RunCreated(**common, id="created", sequence=1, assistant_id="asst_trace", model="gpt"),
        RunInProgress(**common, id="in_progress", sequence=2),
        RunCompleted(**common, id="completed", sequence=3, usage=used),
    ]


def minutes_of_file() -> Minutes:
    sums: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    for at, prompt, completion in requests():
        for place, number in enumerate((1, prompt, completion)):
            sums[at // 60_000][place] += number
    return {minute: (of[0], of[1], of[2]) for minute, of in sums.items()}


def told(story: Sequence[Sequence[Event]]) -> list[Event]:
    return [event for events in story for event in events]
