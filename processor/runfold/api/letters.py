"""Dead letters: list and show them, and what an admin decides about them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Response, Router, get, post
from litestar.params import JSONBody, PathParameter, QueryParameter
from msgspec import Struct

from runfold.api.api import Api
from runfold.api.auth import Caller
from runfold.api.documented import answers
from runfold.api.errors import JSON, BadRequest, NotFound
from runfold.api.freshness import Freshness
from runfold.api.given import GivenApi, GivenCaller
from runfold.api.pages import Cursor, Limit, cursor_of, letter_place
from runfold.fold.changes import Letter
from runfold.log.clock import wall_clock
from runfold.replay.letter_facts import as_dict
from runfold.replay.refold import RetryPlan, plan_retry, retry, run_to_retry
from runfold.store.port import Note
from runfold_schemas.run import Run

_LOOKED_AT: Final = 1_000
"""Letters that a page looks at: those that were discarded, or have another reason, are passed over."""

_PLACE: Final = re.compile(r"([0-9]{1,9}):([0-9]{1,18})")
_encode = msgspec.json.Encoder().encode

LetterPlace = Annotated[str, PathParameter(description="Where it stands in the log: partition:offset")]
Place = tuple[int, int]


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A record that was rejected. ``readable``: today's code would take it. ``discarded`` is why somebody discarded it.

    ``timestamp`` is the record's, in Unix milliseconds, null where it has none.
    """

    partition: int
    offset: int
    timestamp: int | None
    reason: str
    detail: str
    run_id: str | None
    bytes: int
    readable: bool
    discarded: str | None


class WholeLetter(DeadLetter, frozen=True, kw_only=True):
    """A dead letter with its bytes: in base64, and as text where they are text."""

    key: str | None
    value: str | None
    key_base64: str | None
    value_base64: str | None
    headers: list[list[str]]


class DeadLetters(Struct, frozen=True, kw_only=True):
    """A page of dead letters, in the log's order. One may come short, or empty, and go on: ``has_more`` says so."""

    data: list[DeadLetter]
    has_more: bool
    next_cursor: str | None
    runfold: Freshness | None
    object: Literal["list"] = "list"


class RetriedPart(Struct, frozen=True, kw_only=True):
    """What a retry does to a run in one partition: the Run before and after (null: none), and how many letters it has."""

    partition: int
    before: Run | None
    after: Run | None
    letters_before: int
    letters_after: int


class Retried(Struct, frozen=True, kw_only=True):
    """What a retry does, or with ``dry_run`` would do."""

    run_id: str
    changes_nothing: bool
    dry_run: bool
    parts: list[RetriedPart]


class Discarding(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a letter needs no more looking after, for whoever asks later."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]


@get(
    "",
    operation_id="listDeadLetters",
    summary="List dead letters",
    opt={"confined": True},
    responses=answers(DeadLetters, "A page of dead letters"),
)
async def list_letters(
    *,
    api: GivenApi,
    caller: GivenCaller,
    run_id: Annotated[str | None, QueryParameter(description="Only those of this run")] = None,
    reason: Annotated[str | None, QueryParameter(description="Only those of this reason")] = None,
    discarded: Annotated[bool, QueryParameter(description="The discarded ones too")] = False,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Response[Any]:
    """Records that were rejected, in the log's order. A key that is confined to a project asks by run."""
    after = letter_place(cursor)
    looked = await api.reading.letters(caller, run_id=run_id, after=after, limit=_LOOKED_AT)
    notes, found = await api.reading.discarded(), list[Letter]()
    following = _place(looked[-1]) if len(looked) == _LOOKED_AT else None
    for letter in looked:
        if reason in (None, letter.reason) and (discarded or _place(letter) not in notes):
            if len(found) == limit:
                following = _place(found[-1])
                break
            found.append(letter)
    told = {
        "object": "list",
        "data": [as_dict(letter, notes.get(_place(letter)), api.settings.rules) for letter in found],
        "has_more": following is not None,
        "next_cursor": cursor_of(following),
        "runfold": api.freshness.told_to(caller),
    }
    return Response(_encode(told), media_type=JSON)


@get(
    "/{place:str}",
    operation_id="getDeadLetter",
    summary="A dead letter, whole",
    opt={"confined": True},
    responses=answers(WholeLetter, "The dead letter"),
)
async def get_letter(*, api: GivenApi, caller: GivenCaller, place: LetterPlace) -> Response[Any]:
    """The dead letter with its bytes."""
    letter = await _found(api, caller, place)
    told = as_dict(letter, (await api.reading.discarded()).get(_place(letter)), api.settings.rules, whole=True)
    return Response(_encode(told), media_type=JSON)


@post(
    "/{place:str}/retry",
    operation_id="retryDeadLetter",
    summary="Fold the letter's run again",
    status_code=200,
    opt={"scope": "admin"},
    responses=answers(Retried, "What it did", 409, 415),
)
async def retry_letter(
    *,
    api: GivenApi,
    caller: GivenCaller,
    place: LetterPlace,
    dry_run: Annotated[bool, QueryParameter(description="Only tell what it would do")] = False,
) -> Response[Any]:
    """Fold the run of the dead letter again from the log, with today's code; beside a running service."""
    run_id = run_to_retry(await _found(api, caller, place))
    source, rules = await api.log.source(), api.settings.rules
    if dry_run:
        plan = await plan_retry(source, api.store, rules, run_id=run_id)
    else:
        async with api.writing() as store:
            plan = await retry(source, store, rules, run_id)
    return Response(_encode(_retried(plan, dry_run=dry_run)), media_type=JSON)


@post(
    "/{place:str}/discard",
    operation_id="discardDeadLetter",
    summary="Note that a dead letter needs no more looking after",
    status_code=200,
    opt={"scope": "admin"},
    responses=answers(WholeLetter, "The dead letter, discarded", 413, 415),
)
async def discard_letter(
    *, api: GivenApi, caller: GivenCaller, place: LetterPlace, data: JSONBody[Discarding]
) -> Response[Any]:
    """Nothing is deleted; the note outlives every rebuild."""
    letter = await _found(api, caller, place)
    if not data.reason.strip():
        raise BadRequest("Invalid value for 'reason': say why.", param="reason", code="invalid_value")
    partition, offset = _place(letter)
    note = Note(partition=partition, offset=offset, kind="discard", reason=data.reason.strip(), noted_at=wall_clock())
    async with api.writing() as store:
        await store.add_note(note)
    return Response(_encode(as_dict(letter, note.reason, api.settings.rules, whole=True)), media_type=JSON)


def _place(letter: Letter) -> Place:
    return letter.partition, letter.offset


async def _found(api: Api, caller: Caller, place: str) -> Letter:
    told = _PLACE.fullmatch(place)
    letter = await api.reading.letter(caller, (int(told[1]), int(told[2]))) if told else None
    if letter is None:
        raise NotFound(f"No dead letter found at '{place}'.")
    return letter


def _retried(plan: RetryPlan, *, dry_run: bool) -> dict[str, Any]:
    parts = [
        {
            "partition": part.partition,
            "before": part.before,
            "after": part.after,
            "letters_before": len(part.letters_before),
            "letters_after": len(part.letters_after),
        }
        for part in plan.parts
    ]
    return {"run_id": plan.run_id, "changes_nothing": plan.changes_nothing, "dry_run": dry_run, "parts": parts}


router = Router(
    "/v1/runfold/dead-letters",
    route_handlers=[list_letters, get_letter, retry_letter, discard_letter],
    tags=["Dead letters"],
)
