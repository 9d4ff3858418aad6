"""Simulated traffic: the events of made-up runs of an agent platform, in the shape and shares of real ones.

Everything comes from the random generator that is passed in, so that one seed gives one stream. Used by the demo and by
the benchmarks.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from random import Random
from typing import Any

from runfold_schemas.events import (
    Event,
    RunCancelled,
    RunCompleted,
    RunCreated,
    RunExpired,
    RunFailed,
    RunInProgress,
    RunQueued,
    RunRequiresAction,
    TokenDetails,
    Usage,
)

MODELS = ("gpt-4o", "gpt-4o-mini", "gpt-4.1", "o3", "gpt-4.1-mini")
START_MS = 1_760_000_000_000
_WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather in a place",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
    },
}
_ENDS = (RunCompleted, RunFailed, RunCancelled, RunExpired)


def _hex(random: Random, digits: int) -> str:
    return f"{random.getrandbits(4 * digits):0{digits}x}"


def lifecycle(number: int, at: int, random: Random, *, source: str | None = None) -> Iterator[Event]:
    """The events of run ``number``, which starts at ``at`` (ms), with rising times; numbered when a source is given."""
    names = {"run_id": f"run_{_hex(random, 24)}", "thread_id": f"thread_{_hex(random, 24)}"}
    sequence = 0

    def common() -> dict[str, Any]:
        nonlocal sequence
        sequence += 1
        common: dict[str, Any] = {**names, "occurred_at": at}
        if source is not None:
            common |= {"id": f"0199{_hex(random, 8)}-7{_hex(random, 19)}", "source": source, "sequence": sequence}
        return common

    yield RunCreated(
        **common(),
        assistant_id=f"asst_{number % 50}",
        model=random.choice(MODELS),
        instructions="You are a helpful assistant. Answer briefly.",
        tools=[_WEATHER],
        metadata={"project_id": f"proj_{number % 20}", "user_id": f"user_{number % 1000}"},
        expires_at=at // 1000 + 600,
    )
    at += random.randrange(5, 200)
    yield RunInProgress(**common())
    if random.random() < 0.4:
        for _ in range(random.randrange(1, 3)):
            at += random.randrange(100, 4000)
            yield RunRequiresAction(**common(), required_action=_tool_call(random))
            at += random.randrange(10, 500)
            yield RunQueued(**common())
            at += random.randrange(5, 200)
            yield RunInProgress(**common())
    at += random.randrange(200, 9000)
    end = random.choices(_ENDS, (90, 5, 3, 2))[0]
    yield end(**common(), usage=_usage(random))


def interleaved(
    open_runs: int, random: Random, *, source: str | None = "bench", start: int = START_MS
) -> Iterator[Event]:
    """Events of many runs in order of ``occurred_at``, for ever, with ``open_runs`` of them open at any time."""
    heap: list[tuple[int, int, Event, Iterator[Event]]] = []
    count = 0

    def begin(at: int) -> None:
        nonlocal count
        events = lifecycle(count, at, random, source=source)
        count += 1
        first = next(events)
        heapq.heappush(heap, (first.occurred_at, count, first, events))

    for number in range(open_runs):
        begin(start + 2 * number)
    while True:
        at, order, current, events = heapq.heappop(heap)
        yield current
        following = next(events, None)
        if following is None:
            begin(at + random.randrange(1, 20))
        else:
            heapq.heappush(heap, (following.occurred_at, order, following, events))


def _tool_call(random: Random) -> dict[str, Any]:
    call = {
        "id": f"call_{_hex(random, 12)}",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"place":"Oslo"}'},
    }
    return {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": [call]}}


def _usage(random: Random) -> Usage:
    prompt, completion = random.randrange(50, 6000), random.randrange(5, 900)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_token_details=TokenDetails(cached_tokens=prompt // 3),
        completion_tokens_details=TokenDetails(reasoning_tokens=0),
    )
