"""Runs that have ended, of several models, projects and users, some without usage: what reports are made of."""

from __future__ import annotations

from random import Random

from runfold_schemas import Event, RunCompleted, RunCreated, RunFailed, RunInProgress, TokenDetails, Usage

BEGIN = 1_761_264_000  # 2025-10-24T00:00Z, a day before the clocks of Europe go back
HOURS = 60
MODELS = ("gpt-4o", "o3", "our model, large", "")
PROJECTS = ("proj_1", "proj_2", "")


def ended_runs(count: int, *, seed: int = 5) -> list[Event]:
    """Events of as many runs, which ended at random times of HOURS from BEGIN on."""
    random = Random(seed)
    return [event for number in range(count) for event in _run(number, random)]


def _run(number: int, random: Random) -> list[Event]:
    ended = (BEGIN + random.randrange(HOURS * 3600)) * 1000
    told = {"run_id": f"run_{number}", "thread_id": f"thread_{number}"}
    named = {"project_id": random.choice(PROJECTS), "user_id": f"user_{random.randrange(3)}", "api_key_id": "key_1"}
    end = {**told, "id": "3", "occurred_at": ended, "usage": _usage(random) if random.random() < 0.8 else None}
    return [
        RunCreated(
            **told,
            id="1",
            occurred_at=ended - 5000,
            model=random.choice(MODELS),
            assistant_id=f"asst_{random.randrange(2)}",
            metadata={name: value for name, value in named.items() if value},
        ),
        RunInProgress(**told, id="2", occurred_at=ended - 4000),
        RunCompleted(**end) if random.random() < 0.7 else RunFailed(**end),
    ]


def _usage(random: Random) -> Usage:
    prompt, completion = random.randrange(5000), random.randrange(1000)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_token_details=TokenDetails(cached_tokens=random.randrange(prompt + 1)),
    )
