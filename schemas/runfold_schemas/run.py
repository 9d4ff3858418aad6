"""The Run that people read: the OpenAI Assistants API's shape, every property of it always present.

What nobody published is ``""``, ``[]``, ``{}`` or null, by the type the contract gives it; unknown is null, never 0.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Literal

from msgspec import Struct

from runfold_schemas.events import JsonObject, Usage


class RunStatus(IntEnum):
    """Where a run stands. The numbers are stored: never renumber them. From ``CANCELLED`` on a run has ended."""

    QUEUED = 0
    IN_PROGRESS = 1
    REQUIRES_ACTION = 2
    CANCELLING = 3
    CANCELLED = 4
    FAILED = 5
    COMPLETED = 6
    INCOMPLETE = 7
    EXPIRED = 8

    @property
    def wire(self) -> str:
        """The status as the API spells it, such as ``in_progress``."""
        return self.name.lower()

    @property
    def ended(self) -> bool:
        return self >= RunStatus.CANCELLED


StatusName = Literal[
    "queued",
    "in_progress",
    "requires_action",
    "cancelling",
    "cancelled",
    "failed",
    "completed",
    "incomplete",
    "expired",
]
"""The statuses as the API spells them."""


class Run(Struct, frozen=True, kw_only=True):
    """One execution of an assistant on a thread, as it now stands. Times are in Unix seconds."""

    id: str
    created_at: int
    thread_id: str
    assistant_id: str
    status: str
    object: Literal["thread.run"] = "thread.run"
    started_at: int | None = None
    expires_at: int | None = None
    cancelled_at: int | None = None
    failed_at: int | None = None
    completed_at: int | None = None
    required_action: JsonObject | None = None
    last_error: JsonObject | None = None
    model: str
    instructions: str | None = None
    tools: list[JsonObject]
    tool_resources: JsonObject | None = None
    metadata: JsonObject
    temperature: float | None = None
    top_p: float | None = None
    reasoning_effort: str | None = None
    max_completion_tokens: int | None = None
    max_prompt_tokens: int | None = None
    truncation_strategy: JsonObject | None = None
    incomplete_details: JsonObject | None = None
    usage: Usage | None = None
    response_format: Any = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
