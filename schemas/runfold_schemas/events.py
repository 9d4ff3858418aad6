"""The facts that are published about a Run: one frozen struct per fact, told apart by the tag field ``type``.

Every event states a fact absolutely, none is an increment. That is what lets a missing event be survived and a late one
be merged. A field may be added here at any time, with a default; anything else is a new tag and an entry in
:mod:`runfold_schemas.upcast`. Constructors do not validate (msgspec validates where it decodes); publishers do, before
an event is sent.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

MOST_TOKENS = 2**53

Name = Annotated[str, Meta(min_length=1, max_length=64)]
RunId = Annotated[str, Meta(min_length=1, max_length=256)]
Sequence = Annotated[int, Meta(ge=1, le=2**53)]
Milliseconds = Annotated[int, Meta(ge=-(2**53), le=2**53)]
Seconds = Annotated[int, Meta(ge=-(2**53), le=2**53)]
Tokens = Annotated[int, Meta(ge=0, le=MOST_TOKENS)]
JsonObject = dict[str, Any]


class TokenDetails(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Tokens that are part of a count, never on top of it: cached ones of the prompt, reasoning ones of the completion."""

    cached_tokens: Tokens | None = None
    reasoning_tokens: Tokens | None = None


class Usage(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a run used, in tokens (0 to 2**53). All three counts are required: an unknown usage is null, never 0."""

    prompt_tokens: Tokens
    completion_tokens: Tokens
    total_tokens: Tokens
    prompt_token_details: TokenDetails | None = None
    completion_tokens_details: TokenDetails | None = None


class Event(Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True, gc=False):
    """What all events carry.

    ``id`` is unique in its run (1 to 64 characters) and ``occurred_at`` is in Unix milliseconds; the publisher fills in
    both where they are left out, as it does ``source`` and ``sequence``: on the log the first two are required.
    ``sequence`` counts the events of one run from one source, from 1. ``approximate`` says that ``occurred_at`` is the
    earliest time the change can have had rather than its own: durations that would lean on it are left unknown.
    """

    run_id: RunId
    thread_id: RunId
    id: Name = ""
    occurred_at: Milliseconds = 0
    source: Name | None = None
    sequence: Sequence | None = None
    approximate: bool = False


class RunCreated(Event, frozen=True, kw_only=True, tag="thread.run.created"):
    """A run was created: what it shall do and with which settings. ``expires_at`` is in Unix seconds, as in the Run."""

    assistant_id: str = ""
    model: str = ""
    instructions: str | None = None
    tools: list[JsonObject] = []
    metadata: JsonObject = {}
    expires_at: Seconds | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_prompt_tokens: int | None = None
    max_completion_tokens: int | None = None
    truncation_strategy: JsonObject | None = None
    response_format: Any = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    tool_resources: JsonObject | None = None
    extra: JsonObject = {}


class RunQueued(Event, frozen=True, kw_only=True, tag="thread.run.queued"):
    """The run waits for its turn, at first or given back after tool outputs."""


class RunInProgress(Event, frozen=True, kw_only=True, tag="thread.run.in_progress"):
    """The run is being worked on; ``started_at`` becomes the time of this event."""


class RunRequiresAction(Event, frozen=True, kw_only=True, tag="thread.run.requires_action"):
    """The run waits for tool outputs; ``required_action`` says for which."""

    required_action: JsonObject


class RunCancelling(Event, frozen=True, kw_only=True, tag="thread.run.cancelling"):
    """Somebody asked for the run to be cancelled."""


class RunEnded(Event, frozen=True, kw_only=True):
    """What the five ends share. ``usage`` null means unknown; a failed run can have used tokens."""

    usage: Usage | None = None
    last_error: JsonObject | None = None
    incomplete_details: JsonObject | None = None


class RunCancelled(RunEnded, frozen=True, kw_only=True, tag="thread.run.cancelled"):
    """The run was cancelled."""


class RunFailed(RunEnded, frozen=True, kw_only=True, tag="thread.run.failed"):
    """The run failed; ``last_error`` says why."""


class RunCompleted(RunEnded, frozen=True, kw_only=True, tag="thread.run.completed"):
    """The run did what it was created for."""


class RunIncomplete(RunEnded, frozen=True, kw_only=True, tag="thread.run.incomplete"):
    """The run stopped at a limit; ``incomplete_details`` says at which."""


class RunExpired(RunEnded, frozen=True, kw_only=True, tag="thread.run.expired"):
    """The run was not finished before its ``expires_at``."""


class RunModified(Event, frozen=True, kw_only=True, tag="thread.run.modified"):
    """Somebody replaced the run's metadata, in whatever state it was."""

    metadata: JsonObject


class RunUsageCorrected(Event, frozen=True, kw_only=True, tag="thread.run.usage_corrected"):
    """Somebody corrected what the run used: ``usage`` is absolute and outranks that of any end."""

    usage: Usage
    reason: str | None = None


AnyEvent = (
    RunCreated
    | RunQueued
    | RunInProgress
    | RunRequiresAction
    | RunCancelling
    | RunCancelled
    | RunFailed
    | RunCompleted
    | RunIncomplete
    | RunExpired
    | RunModified
    | RunUsageCorrected
)
EVENT_TYPES: tuple[type[Event], ...] = AnyEvent.__args__
