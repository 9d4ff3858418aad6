"""Usage of completions by bucket and group, in the shape of OpenAI's usage API.

What runs used is summed by the store from minutes; a run counts where it ended. What no event tells is null: ``batch``,
``service_tier``, audio. Tokens are null where no run of a result told any, and the sum over those that did elsewhere; how
many did not is said beside it.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Response, get
from litestar.params import QueryParameter
from msgspec import Struct, structs

from runfold.api.documented import answers
from runfold.api.errors import JSON, BadRequest
from runfold.api.export import Columns, Exporting, exported
from runfold.api.freshness import Freshness
from runfold.api.given import GivenApi, GivenCaller
from runfold.api.window import USAGE_LIMITS, GivenAsked, window_of
from runfold.report.periods import Width
from runfold.store.usage_query import UsageQuery, UsageSum
from runfold_schemas.run import RunStatus

Group = Literal[
    "project_id", "user_id", "api_key_id", "model", "batch", "service_tier", "api_source", "assistant_id", "status"
]
KNOWN: Final = ("project_id", "user_id", "api_key_id", "model", "assistant_id", "status")
"""The groups that events tell; by any other all is one group."""


class MoreUsage(Struct, frozen=True, kw_only=True):
    """What runfold knows beyond OpenAI's result. Reasoning is part of the output.

    ``without_usage`` counts runs that ended without telling what they used. Seconds are sums over ``timed_runs``.
    """

    runs: int
    without_usage: int
    reasoning_tokens: int | None
    total_tokens: int | None
    timed_runs: int
    queue_seconds: float | None
    run_seconds: float | None


class UsageResult(Struct, frozen=True, kw_only=True):
    """A group's usage. ``num_model_requests`` counts runs that ended: how many requests a run made, no event tells.

    ``input_cached_tokens`` are part of ``input_tokens``. Of the groups those are set that were asked for, as far as known.
    """

    input_tokens: int | None
    output_tokens: int | None
    num_model_requests: int
    input_cached_tokens: int | None
    input_uncached_tokens: int | None
    runfold: MoreUsage
    input_audio_tokens: None = None
    output_audio_tokens: None = None
    project_id: str | None = None
    user_id: str | None = None
    api_key_id: str | None = None
    model: str | None = None
    batch: None = None
    service_tier: None = None
    api_source: str | None = None
    assistant_id: str | None = None
    status: str | None = None
    object: Literal["organization.usage.completions.result"] = "organization.usage.completions.result"


class UsageBucket(Struct, frozen=True, kw_only=True):
    """Unix seconds, half-open. No usage, no results."""

    start_time: int
    end_time: int
    results: list[UsageResult]
    object: Literal["bucket"] = "bucket"


class UsagePage(Struct, frozen=True, kw_only=True):
    """A page of buckets, without a gap. ``runfold`` says how fresh it is."""

    data: list[UsageBucket]
    has_more: bool
    next_page: str | None
    runfold: Freshness | None
    object: Literal["page"] = "page"


_COLUMNS: Final[Columns] = {
    "start_time": int,
    "end_time": int,
    **dict.fromkeys(KNOWN, str),
    **dict.fromkeys(("runs", "without_usage"), int),
    **dict.fromkeys(("input_tokens", "input_cached_tokens", "output_tokens", "reasoning_tokens", "total_tokens"), int),
    "timed_runs": int,
    "queue_seconds": float,
    "run_seconds": float,
}
_ALL: Final[dict[str, Any]] = {}
_encode = msgspec.json.Encoder().encode


@get(
    "/usage/completions",
    operation_id="usageCompletions",
    summary="Usage by time and group",
    opt={"confined": True},
    operation_class=Exporting,
    responses=answers(UsagePage, "A page of buckets", 409),
)
async def usage_completions(
    *,
    api: GivenApi,
    caller: GivenCaller,
    asked: GivenAsked,
    bucket_width: Annotated[Width, QueryParameter(description="How wide buckets are")] = "1d",
    group_by: Annotated[
        list[Group] | None, QueryParameter(name="group_by[]", description="By what to tell apart")
    ] = None,
    batch: Annotated[bool | None, QueryParameter(description="Refused: runs do not tell")] = None,
    limit: Annotated[
        int | None, QueryParameter(ge=1, le=1440, description="1d: 7, 31 at most; 1h: 24, 168; 1m: 60, 1440")
    ] = None,
) -> Response[Any]:
    """Buckets of the calendar from `start_time` to `end_time`, page by page.

    A minute belongs to the period in which it begins, and a run to the minute in which it ended. A period that begins or ends
    within a bucket has a part of that bucket.
    """
    if batch is not None:
        raise BadRequest("Runs do not tell whether they are of a batch.", param="batch", code="unsupported_parameter")
    window = window_of(asked, USAGE_LIMITS, width=bucket_width, limit=limit)
    groups = dict.fromkeys(group_by or ())
    wanted = UsageQuery(edges=window.edges, by=tuple(name for name in groups if name in KNOWN), only=asked.only)
    found = await api.usage.sums(caller, wanted, known_at=asked.known_at)
    listed = _buckets(wanted, found, source="api_source" in groups)
    if asked.format != "json":
        return exported(asked.format, "usage", _COLUMNS, _rows(listed), window.next_page)
    body = UsagePage(
        data=listed,
        has_more=window.next_page is not None,
        next_page=window.next_page,
        runfold=api.freshness.told_to(caller),
    )
    return Response(_encode(body), media_type=JSON)


def _buckets(wanted: UsageQuery, found: list[UsageSum], *, source: bool) -> list[UsageBucket]:
    results: list[list[UsageResult]] = [[] for _ in wanted.edges[1:]]
    for part, group, sums in found:
        named = _named(dict(zip(wanted.by, group, strict=True))) if group else _ALL
        results[part].append(_result(named, sums, source=source))
    return [
        UsageBucket(start_time=begin * 60, end_time=end * 60, results=of)
        for begin, end, of in zip(wanted.edges, wanted.edges[1:], results, strict=False)
    ]


def _named(group: dict[str, Any]) -> dict[str, Any]:
    """A group's values as they are told; null is unknown."""
    if "status" in group:
        group["status"] = RunStatus(group["status"]).wire
    return {name: value or None for name, value in group.items()}


def _result(named: dict[str, Any], sums: tuple[int, ...], *, source: bool) -> UsageResult:
    """``sums`` are in the order of :data:`runfold.fold.usage.SUMS`."""
    runs, without_usage, prompt, cached, completion, reasoning, total, timed, queue_ms, run_ms = sums
    known = runs > without_usage
    return UsageResult(
        input_tokens=prompt if known else None,
        output_tokens=completion if known else None,
        num_model_requests=runs,
        input_cached_tokens=cached if known else None,
        input_uncached_tokens=prompt - cached if known else None,
        api_source="unlabeled" if source else None,
        **named,
        runfold=MoreUsage(
            runs=runs,
            without_usage=without_usage,
            reasoning_tokens=reasoning if known else None,
            total_tokens=total if known else None,
            timed_runs=timed,
            queue_seconds=queue_ms / 1000 if timed else None,
            run_seconds=run_ms / 1000 if timed else None,
        ),
    )


def _rows(listed: list[UsageBucket]) -> list[dict[str, Any]]:
    return [
        {
            "start_time": of.start_time,
            "end_time": of.end_time,
            **structs.asdict(result),
            **structs.asdict(result.runfold),
        }
        for of in listed
        for result in of.results
    ]
