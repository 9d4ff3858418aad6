"""Events and broken bytes at random, for the tests of whoever publishes or reads events.

Everything comes from the ``random.Random`` that is given: a seed repeats a failure, and Hypothesis can hand in its own and
shrink what it found. Nothing here is used by runfold itself.
"""

from __future__ import annotations

from random import Random
from typing import Any

from runfold_schemas.codec import encode, encode_json
from runfold_schemas.events import (
    EVENT_TYPES,
    Event,
    RunCreated,
    RunEnded,
    RunModified,
    RunRequiresAction,
    RunUsageCorrected,
    TokenDetails,
    Usage,
)

_WORDS = ("", "a", "gpt-4o", "Grüße", "日本", "🜲", "null", '{"', "\x00", "x" * 40)
_NUMBERS = (0, 1, -1, 127, 128, 255, 65536, 2**31, 2**53, -(2**63), 2**64 - 1)
_FLOATS = (0.0, -1.5, 0.1, 1e300, 5e-324)
_TELLING = b"\x00\x7b\x7d\x22\x80\x90\xa0\xc0\xc1\xc4\xc7\xca\xcb\xcf\xd3\xd6\xd9\xdb\xdd\xdf\xef\xff"
"""Bytes that mean something to one wire or the other: brackets, lengths, numbers, extension types."""


def random_event(rng: Random, *, run_id: str | None = None) -> Event:
    """A valid event of any type, with any of its optional fields; of the run ``run_id``, if one is given."""
    struct = rng.choice(EVENT_TYPES)
    fields: dict[str, Any] = {
        "id": f"{rng.getrandbits(64):016x}",
        "run_id": run_id or f"run_{rng.randrange(1000)}",
        "thread_id": f"thread_{rng.randrange(10)}",
        "occurred_at": rng.randrange(978_307_200_000, 2_000_000_000_000),
    }
    if rng.random() < 0.7:
        fields |= {"source": rng.choice(("worker-1", "worker-2", "Ωμέγα")), "sequence": rng.randrange(1, 100)}
    if rng.random() < 0.1:
        fields["approximate"] = True
    return struct(**fields, **_own_fields(struct, rng))


def random_json(rng: Random, *, depth: int = 3) -> Any:
    """A value that JSON can express, nested at most ``depth`` deep."""
    kind = rng.randrange(6 if depth else 4)
    if kind == 0:
        return rng.choice(_WORDS)
    if kind == 1:
        return rng.choice(_NUMBERS)
    if kind == 2:
        return rng.choice((None, True, False))
    if kind == 3:
        return rng.choice(_FLOATS)
    if kind == 4:
        return [random_json(rng, depth=depth - 1) for _ in range(rng.randrange(3))]
    return random_object(rng, depth=depth)


def random_object(rng: Random, *, depth: int = 3) -> dict[str, Any]:
    """A JSON object, nested at most ``depth`` deep."""
    return {rng.choice(_WORDS): random_json(rng, depth=depth - 1) for _ in range(rng.randrange(4))}


def random_bytes(rng: Random) -> bytes:
    """Bytes that may be anything: noise, an event on either wire, or an event that was broken."""
    if rng.random() < 0.2:
        return rng.randbytes(rng.randrange(200))
    value = rng.choice((encode, encode_json))(random_event(rng))
    for _ in range(rng.choice((0, 1, 1, 2, 8))):
        value = broken(value, rng)
    return value


def broken(value: bytes, rng: Random) -> bytes:
    """``value`` with one thing done to it: a byte exchanged, a piece taken out, doubled, moved or put in, an end lost."""
    begin, end = sorted((rng.randrange(len(value) + 1), rng.randrange(len(value) + 1)))
    telling = bytes([rng.choice(_TELLING)])
    return rng.choice(
        (
            value[:begin] + telling + value[begin + 1 :],
            value[:begin] + telling + value[begin:],
            value[:begin] + rng.randbytes(rng.randrange(8)) + value[end:],
            value[:end] + value[begin:],
            value[begin:end] + value[:begin] + value[end:],
            value[:begin],
            value[begin:],
        )
    )


def _own_fields(struct: type[Event], rng: Random) -> dict[str, Any]:
    if struct is RunCreated:
        return _settings(rng)
    if struct is RunRequiresAction:
        calls = [random_object(rng) for _ in range(rng.randrange(3))]
        return {"required_action": {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": calls}}}
    if struct is RunModified:
        return {"metadata": random_object(rng)}
    if struct is RunUsageCorrected:
        return {"usage": _usage(rng), "reason": rng.choice((None, "billing"))}
    if issubclass(struct, RunEnded):
        return {"usage": rng.choice((None, _usage(rng))), "last_error": rng.choice((None, random_object(rng)))}
    return {}


def _settings(rng: Random) -> dict[str, Any]:
    settings = {
        "assistant_id": "asst_1",
        "model": rng.choice(("gpt-4o", "o3")),
        "instructions": rng.choice(_WORDS),
        "tools": [random_object(rng) for _ in range(rng.randrange(3))],
        "metadata": random_object(rng),
        "expires_at": rng.randrange(2**31),
        "temperature": rng.choice(_FLOATS),
        "top_p": 1.0,
        "max_prompt_tokens": 1000,
        "truncation_strategy": random_object(rng),
        "response_format": random_json(rng),
        "tool_choice": random_json(rng),
        "parallel_tool_calls": rng.random() < 0.5,
        "tool_resources": random_object(rng),
        "extra": random_object(rng),
    }
    return {name: value for name, value in settings.items() if rng.random() < 0.6}


def _usage(rng: Random) -> Usage:
    prompt, completion = rng.randrange(10_000), rng.randrange(10_000)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_token_details=rng.choice((None, TokenDetails(cached_tokens=rng.randrange(prompt + 1)))),
        completion_tokens_details=rng.choice((None, TokenDetails(reasoning_tokens=0))),
    )
