"""``runfold replay rebuild``: a second store from the log, compared with the live one, and switched to; and the way back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Annotated

from cyclopts import Parameter, validators
from msgspec import Struct

from runfold import wiring
from runfold.cli.asking import confirmed
from runfold.cli.bounds import Begin, End, OneRun, order_of
from runfold.cli.exits import DONE, NO, NoError, WrongUseError
from runfold.cli.opening import reading_store, reading_whole_log
from runfold.cli.options import HERE, AsOneObject, Places, Yes
from runfold.cli.pace import pace
from runfold.cli.printing import print_json, tell
from runfold.cli.rebuild_views import Outcome, build, show_outcome
from runfold.cli.standing import drop_stores, show_standing
from runfold.collector import LARGE_BATCHES, quieten_collector
from runfold.config import Settings
from runfold.replay.order import Order
from runfold.replay.rebuild import Building, rebuilding
from runfold.replay.shadow import Progress
from runfold.replay.spread import Share
from runfold.replay.spread import spread as spread_out
from runfold.replay.switch import check_switchable, returning, switch
from runfold.store.notes import set_aside_of
from runfold.store.shadows import Shadows

Processes = Annotated[int, Parameter(validator=validators.Number(gte=1), help="How many processes fold.")]
Patience = Annotated[float, Parameter(validator=validators.Number(gt=0), help="Seconds without progress to bear with.")]
Switch = Annotated[bool, Parameter(name="--switch", help="Make it the live store; who serves goes on in it.")]
Accept = Annotated[bool, Parameter(name="--accept", help="Switch although it differs from the live store.")]
Back = Annotated[bool, Parameter(name="--back", help="Switch back to the store before.")]
Status = Annotated[bool, Parameter(name="--status", help="Show the stores there are, and change nothing.")]
Drop = Annotated[
    str | None, Parameter(name="--drop", help="Remove a store by its name in --status; all: all but the live.")
]


class _How(Struct, frozen=True, kw_only=True):
    """What was asked for on the command line, beside the order."""

    processes: int
    patience: float
    switch: bool
    accept: bool
    yes: bool
    json: bool


def rebuild(
    *,
    begin: Begin = None,
    end: End = None,
    run: OneRun = None,
    processes: Processes = 1,
    patience: Patience = 60.0,
    to_live: Switch = False,
    accept: Accept = False,
    back: Back = False,
    status: Status = False,
    drop: Drop = None,
    yes: Yes = False,
    json: AsOneObject = False,
    places: Places = HERE,
) -> int:
    """Fold the log again into a second store beside the live one, compare both, and with --switch exchange them.

    It runs beside a serving process, goes on where it was killed, and changes nothing that is live until it switches. Exit
    code 1 where both differ, or the log no longer has all that the store came from.
    """
    settings = places.settings()
    if sum((status, back, drop is not None, to_live)) > 1:
        raise WrongUseError("--switch, --back, --status and --drop exclude each other")
    if status:
        return asyncio.run(show_standing(settings, json=json))
    if drop is not None:
        return asyncio.run(drop_stores(settings, drop, yes=yes))
    order = order_of(begin, end, run)
    if order.cut and (to_live or back):
        raise WrongUseError("what is built with --from, --until or --run is not the whole: it is never switched to")
    quieten_collector(LARGE_BATCHES)
    how = _How(processes=processes, patience=patience, switch=to_live, accept=accept, yes=yes, json=json)
    return asyncio.run(_back(settings, how) if back else _rebuild(settings, order, how))


async def _rebuild(settings: Settings, order: Order, how: _How) -> int:
    shadows = wiring.open_shadows(settings)
    async with reading_whole_log(settings) as source, reading_store(settings) as live:
        with pace("rebuilding", json=how.json) as progress:
            spread = None if how.processes == 1 else Spreading(settings, how.processes, progress)
            async with rebuilding(
                source,
                live,
                shadows,
                settings.rules,
                order=order,
                patience=how.patience,
                progress=progress,
                spread=spread,
            ) as building:
                outcome = await build(building, shadows, settings.rules)
                if not how.switch:
                    show_outcome(outcome, json=how.json)
                    return DONE if outcome.good else NO
                if not how.json:
                    show_outcome(outcome, json=False)
                check_switchable(building)
                _agree(outcome, how)
                await _switch(building, shadows)
                if how.json:
                    outcome.switched = True
                    show_outcome(outcome, json=True)
    return DONE


def _agree(outcome: Outcome, how: _How) -> None:
    """Return where the switch is wanted, by what was said or what is answered. Raises NoError where it is not."""
    if not outcome.good and not how.accept:
        raise NoError(f"nothing was switched: {outcome.differing}; --accept switches all the same")
    confirmed(f"Make {outcome.name} the live store?", yes=how.yes)


async def _back(settings: Settings, how: _How) -> int:
    shadows = wiring.open_shadows(settings)
    async with reading_whole_log(settings) as source, reading_store(settings) as live:
        with pace("catching up", json=how.json) as progress:
            async with returning(
                source, live, shadows, settings.rules, patience=how.patience, progress=progress
            ) as building:
                confirmed(f"Make {building.name} the live store again?", yes=how.yes)
                await _switch(building, shadows)
                if how.json:
                    print_json({"name": building.name, "switched": True})
    return DONE


async def _switch(building: Building, shadows: Shadows) -> None:
    """Switch, and say so, even to somebody who has just interrupted it."""
    try:
        await switch(building, shadows)
    finally:
        tell(
            f"{building.name} is {'the live store now' if building.switched else 'not the live store: nothing was switched'}"
        )


class Spreading:
    """Folds a large distance by several processes; see :data:`runfold.replay.rebuild.Spread`."""

    def __init__(self, settings: Settings, processes: int, progress: Progress) -> None:
        self._settings, self._processes, self._progress = settings, processes, progress

    async def __call__(self, building: Building, ends: Mapping[int, int]) -> None:
        done, positions = 0, building.shadow.positions
        total = sum(max(0, end - positions[which]) for which, end in ends.items())

        def told(more: int) -> None:
            nonlocal done
            done += more
            building.shadow.moved += 1
            self._progress(done, total)

        share = Share(
            open_source=partial(wiring.open_whole_log, self._settings),
            open_store=partial(wiring.open_beside, self._settings, building.name),
            rules=self._settings.rules,
            set_aside=set_aside_of(await building.shadow.store.notes()),
            starts=dict(positions),
            ends=dict(ends),
        )
        await spread_out(share, processes=self._processes, told=told)
