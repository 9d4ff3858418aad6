"""The switch: a rebuilt store becomes the live one while it is served, and back again by the same way.

What may change here is how long is waited. That nothing is lost or doubled stands on three things: nobody folds into the
live store while it is held, both stores stand at the same positions when they are exchanged, and the exchange is one
transaction, in which that is seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeVar

from uuid_utils import uuid7

from runfold.fold.admit import Decode
from runfold.fold.rules import Rules
from runfold.log.port import LogSource
from runfold.replay.order import Scope
from runfold.replay.rebuild import Building
from runfold.replay.run_range import bind, check_log, own_identity
from runfold.replay.shadow import Progress, Shadow
from runfold.store.notes import set_aside_of
from runfold.store.port import Lease, StalePosition, Store, StoreError, StoreRefused, StoreUnreachable
from runfold.store.shadows import FORMER, Shadows
from runfold_schemas.codec import decode_lean

T = TypeVar("T")

HOLD_SECONDS: Final = 15.0
"""How long the live store is held at most: a switcher that dies leaves it to its workers after so long."""
_ATTEMPTS: Final = 5


async def switch(building: Building, shadows: Shadows) -> None:
    """Make the rebuilt store the live one. Raises StoreRefused where it may not be, StalePosition where others won the race.

    1. The shadow is complete: every index made, all of it on the disk, close behind the live store.
    2. *Hold*: through the one write door every partition's epoch is raised, and no worker gets one. What they had in hand
       meets StalePosition; the live store stands still from here on.
    3. The shadow folds the few records up to where the live store stands, and takes over its notes.
    4. *Exchange*, in one transaction: the partitions are still held, positions and notes are the same, and the shadow is
       the live store. Epochs are raised above all that were given before.
    5. Workers, readers and the former's caches notice at their next transaction, and go on from the new store's positions,
       which are the former's.

    Whoever dies before 4 has changed nothing, and the hold runs out by itself; whoever dies after it is done.
    """
    check_switchable(building)
    await shadows.complete(building.name)
    for attempt in range(1, _ATTEMPTS + 1):
        await building.follow()
        try:
            await _hold_and_exchange(building, shadows)
        except StalePosition:
            if attempt == _ATTEMPTS:
                raise
            await building.shadow.claim()
        else:
            return


def check_switchable(building: Building) -> None:
    """Raise StoreRefused where the rebuilt store lacks what the live one has: it was cut, or the log is."""
    if building.scope.cut:
        raise StoreRefused(
            f"{building.name} was built with {building.scope.words}: it is not the whole, and never switched to"
        )
    if building.lost:
        told = ", ".join(f"partition {which} at {begin}" for which, begin in sorted(building.lost.items()))
        raise StoreRefused(
            f"the log begins later than the store ({told}): runs that began before are unverifiable, and a rebuilt store would "
            "lack them. Name a log that is complete in RUNFOLD_LOG, such as an archive"
        )


@asynccontextmanager
async def returning(
    source: LogSource,
    live: Store,
    shadows: Shadows,
    rules: Rules,
    *,
    patience: float,
    progress: Progress | None = None,
    decode: Decode = decode_lean,
) -> AsyncIterator[Building]:
    """The store that the live one took over from, to be caught up and switched back to as a rebuilt one is.

    Raises StoreRefused where there is none, or it is of another fold: then the version that wrote it has to go back.
    """
    async with shadows.alone():
        await check_log(source, live, rules)
        name = next((each.name for each in await shadows.standing() if each.role == FORMER), None)
        if name is None:
            raise StoreRefused("there is no former store to go back to: none was switched, or it was dropped")
        store = shadows.opened(name)
        await store.open()
        try:
            await bind(store, await own_identity(source, rules))
            for note in await live.notes():
                await store.add_note(note)
            set_aside = set_aside_of(await store.notes())
            shadow = Shadow(source, store, rules=rules, decode=decode, set_aside=set_aside, progress=progress)
            yield Building(name=name, scope=Scope(), source=source, live=live, shadow=shadow, patience=patience)
            await shadow.release()
        finally:
            await store.close()


async def _hold_and_exchange(building: Building, shadows: Shadows) -> None:
    owner = f"switch:{uuid7()}"
    holding = asyncio.ensure_future(shadows.hold(owner, lease=HOLD_SECONDS))
    try:
        held = await _in_one_piece(holding)
        await building.advance({which: lease.position for which, lease in held.items()})
        await building.bring_notes()
        await building.shadow.release()
        await _exchange(building, shadows, held)
    finally:
        if holding.done() and not holding.cancelled() and holding.exception() is None:
            with suppress(StoreError):  # it runs out by itself, and after the exchange nobody has it any more
                await shadows.release(owner, holding.result())


async def _exchange(building: Building, shadows: Shadows, held: Mapping[int, Lease]) -> None:
    """Step 4; a connection that was cut in the middle of the commit leaves open whether it is done, so that is looked at."""
    before = (await shadows.standing())[0].number
    exchanging = asyncio.ensure_future(shadows.exchange(building.name, held))
    exchanging.add_done_callback(building.note_exchange)
    try:
        await _in_one_piece(exchanging)
    except StoreUnreachable:
        building.switched = (await shadows.standing())[0].number > before
        if not building.switched:
            raise


async def _in_one_piece(task: asyncio.Future[T]) -> T:
    """What is begun is waited for, also by those who interrupt: they are told what is, not what may come to be."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        raise
