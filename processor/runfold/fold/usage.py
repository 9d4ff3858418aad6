"""Usage: which bucket a run that has ended is booked in, with which sums, and what changes when more becomes known.

A bucket is the minute (UTC) in which the run ended, the run's dimensions as known then, and its final status. Hours and
days are sums of minutes. Cached and reasoning tokens are part of prompt and completion tokens, never on top.
"""

from __future__ import annotations

from typing import NamedTuple

SUMS = (
    "runs",
    "without_usage",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "total_tokens",
    "timed_runs",
    "queue_ms",
    "run_ms",
)
"""What is summed in a bucket. ``queue_ms`` and ``run_ms`` are over the ``timed_runs``, those whose times are all known."""


class Dimensions(NamedTuple):
    """By what usage can be grouped. ``""`` is unknown, and is shown as null."""

    model: str = ""
    assistant_id: str = ""
    project_id: str = ""
    user_id: str = ""
    api_key_id: str = ""


class BucketKey(NamedTuple):
    """Where a run is booked: ``minute`` in Unix minutes, ``status`` a :class:`runfold_schemas.RunStatus` number."""

    minute: int
    dimensions: Dimensions
    status: int
