"""``runfold dead-letters``: what was rejected, why, and what people decide about it.

A letter is named by its place in the log, ``partition:offset``. What changes anything first shows what it would do, and asks.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import App, Parameter, Token

from runfold.cli.asking import confirmed
from runfold.cli.exits import DONE, NoError, WrongUseError
from runfold.cli.letter_views import ROW, as_dict, facts, row
from runfold.cli.opening import reading_store, writing_store
from runfold.cli.options import HERE, AsJson, AsOneObject, Limit, Places, Yes
from runfold.cli.printing import print_facts, print_json, print_table, tell
from runfold.cli.retrying import retry_runs, runs_of, set_aside_among
from runfold.config import Settings
from runfold.fold.changes import Letter
from runfold.log.clock import wall_clock
from runfold.replay.run_range import every_letter
from runfold.store.notes import DISCARD
from runfold.store.port import Note, Store

app = App(
    name="dead-letters",
    help="List, show, retry and discard what was rejected.",
    default_parameter=Parameter(negative=()),
)

Place = tuple[int, int]
_PLACE = re.compile(r"(\d{1,9}):(\d{1,18})")


def _place_of(text: str) -> Place:
    found = _PLACE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no place: partition:offset is wanted, such as 0:1234")
    return int(found[1]), int(found[2])


def _one_place(_: Any, tokens: Sequence[Token]) -> Place:
    return _place_of(tokens[0].value)


OnePlace = Annotated[Place, Parameter(converter=_one_place, n_tokens=1, help="Place in the log: partition:offset.")]


@app.command(name="list")
def list_letters(
    *,
    run: Annotated[str | None, Parameter(help="Only letters of this run.")] = None,
    reason: Annotated[str | None, Parameter(help="Only letters of this reason.")] = None,
    after: Annotated[Place | None, Parameter(converter=_one_place, n_tokens=1, help="Go on behind this place.")] = None,
    limit: Limit = 100,
    with_discarded: Annotated[bool, Parameter(name="--all", help="Those that were discarded too.")] = False,
    json: AsJson = False,
    places: Places = HERE,
) -> int:
    """List dead letters in the order of the log; discarded ones with --all only."""
    settings = places.settings()
    found, discarded = asyncio.run(
        _list(settings, run=run, reason=reason, after=after, limit=limit, with_discarded=with_discarded)
    )
    if json:
        print_json(*(as_dict(letter, discarded.get(_place(letter)), settings.rules) for letter in found))
    else:
        print_table(ROW, [row(letter, discarded.get(_place(letter)), settings.rules) for letter in found])
        if limit and len(found) == limit:
            last = found[-1]
            tell(f"the first {limit:,}; --limit 0 shows all, --after {last.partition}:{last.offset} goes on")
    return DONE


@app.command
def show(place: OnePlace, /, *, json: AsOneObject = False, places: Places = HERE) -> int:
    """One dead letter, whole. Exit code 1 where there is none."""
    settings = places.settings()
    letter, discarded = asyncio.run(_show(settings, place))
    if json:
        print_json(as_dict(letter, discarded, settings.rules, whole=True))
    else:
        print_facts(facts(letter, discarded, settings.rules))
    return DONE


@app.command
def retry(
    *which: Annotated[str, Parameter(help="Runs, or places in the log (partition:offset).")],
    readable: Annotated[bool, Parameter(help="All letters that today's code could read.")] = False,
    yes: Yes = False,
    json: AsJson = False,
    places: Places = HERE,
) -> int:
    """Fold the runs of dead letters again from the log, with today's code; also beside a running serve.

    A record that was set aside is folded with the rest where its place is named. It first shows what all that would change,
    and asks.
    """
    if bool(which) == readable:
        raise WrongUseError("name runs or places, or --readable for all letters that today's code could read")
    return asyncio.run(_retry(places.settings(), which, yes=yes, json=json))


@app.command
def discard(
    *which: Annotated[str, Parameter(help="Places in the log (partition:offset).")],
    reason: Annotated[str, Parameter(help="Why, for whoever asks later.")],
    yes: Yes = False,
    json: AsJson = False,
    places: Places = HERE,
) -> int:
    """Note that dead letters need no more looking after. Nothing is deleted; the note outlives every rebuild."""
    if not which or not reason.strip():
        raise WrongUseError("name the places of letters, and with --reason why they are discarded")
    try:
        wanted = list(dict.fromkeys(map(_place_of, which)))
    except ValueError as error:
        raise WrongUseError(str(error)) from error
    return asyncio.run(_discard(places.settings(), wanted, reason=reason.strip(), yes=yes, json=json))


def _place(letter: Letter) -> Place:
    return letter.partition, letter.offset


async def _list(
    settings: Settings, *, run: str | None, reason: str | None, after: Place | None, limit: int, with_discarded: bool
) -> tuple[list[Letter], dict[Place, str]]:
    found: list[Letter] = []
    async with reading_store(settings) as store:
        discarded = await _discarded(store)
        async for letter in every_letter(store, run_id=run):
            if after is not None and _place(letter) <= after:
                continue
            if reason in (None, letter.reason) and (with_discarded or _place(letter) not in discarded):
                found.append(letter)
            if limit and len(found) == limit:
                break
    return found, discarded


async def _show(settings: Settings, place: Place) -> tuple[Letter, str | None]:
    async with reading_store(settings) as store:
        return await _letter_at(store, place), (await _discarded(store)).get(place)


async def _letter_at(store: Store, place: Place) -> Letter:
    found = await store.letters(place=place, limit=1)
    if not found:
        raise NoError(f"there is no dead letter at {place[0]}:{place[1]}")
    return found[0]


async def _discarded(store: Store) -> dict[Place, str]:
    return {(note.partition, note.offset): note.reason for note in await store.notes() if note.kind == DISCARD}


async def _retry(settings: Settings, which: Sequence[str], *, yes: bool, json: bool) -> int:
    async with reading_store(settings) as store:
        named = [(await _letter_at(store, _place_of(word))) if _PLACE.fullmatch(word) else word for word in which]
        run_ids = await runs_of(store, named, rules=settings.rules)
    return await retry_runs(settings, run_ids, lift=set_aside_among(named), yes=yes, json=json)


async def _discard(settings: Settings, wanted: Sequence[Place], *, reason: str, yes: bool, json: bool) -> int:
    async with reading_store(settings) as store:
        letters = [await _letter_at(store, place) for place in wanted]
        discarded = await _discarded(store)
    for letter in letters:
        told = discarded.get(_place(letter))
        known = f" (discarded before: {told})" if told else ""
        tell(f"would discard {letter.partition}:{letter.offset}, {letter.reason}: {letter.detail}{known}")
    confirmed(f"Discard {len(letters):,} of them?", yes=yes)
    async with writing_store(settings) as store:
        for letter in letters:
            note = Note(
                partition=letter.partition, offset=letter.offset, kind=DISCARD, reason=reason, noted_at=wall_clock()
            )
            await store.add_note(note)
            if json:
                print_json(note)
    tell(f"{len(letters):,} discarded")
    return DONE
