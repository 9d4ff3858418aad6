"""A Run body like those of the service, to be changed by each test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

CREATED, STARTED, ENDED = 1_761_861_679, 1_761_861_680, 1_761_861_696


def body_with(**changes: Any) -> dict[str, Any]:
    body = {
        "id": "run_1",
        "object": "thread.run",
        "created_at": CREATED,
        "assistant_id": "asst_1",
        "thread_id": "thread_1",
        "status": "completed",
        "started_at": STARTED,
        "expires_at": None,
        "cancelled_at": None,
        "failed_at": None,
        "completed_at": ENDED,
        "required_action": None,
        "last_error": None,
        "model": "gpt-4o",
        "instructions": None,
        "tools": [],
        "metadata": {},
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }
    return body | changes


@pytest.fixture
def body() -> Callable[..., dict[str, Any]]:
    """A completed Run's body with some fields changed."""
    return body_with
