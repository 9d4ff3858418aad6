"""Rebuild: a second store from the log alone, beside the live one, by today's fold; resumable, and proven before it is used.

The shadow's own positions are the checkpoint: a rebuild that was killed goes on from there. It never goes beyond where the
live store stands, so that both can be compared. Nothing here changes the live store; that is :mod:`runfold.replay.switch`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from msgspec import Struct

from runfold.fold.admit import Decode
from runfold.fold.rules import Rules
from runfold.log.port import LogSource
from runfold.replay.comparison import Comparison, compare, count_unverifiable
from runfold.replay.order import Order, Scope, decode_scope, scope_of
from runfold.replay.patient import patient
from runfold.replay.run_range import bind, check_log, own_identity
from runfold.replay.shadow import BATCH_RECORDS, Progress, Shadow
from runfold.store.notes import set_aside_of
from runfold.store.port import Store, StoreRefused
from runfold.store.shadows import SHADOW, Shadows
from runfold_schemas.codec import decode_lean

_ROUNDS: Final = 20
_DROP: Final = "`runfold replay rebuild --drop {name}` removes it"


Spread = Callable[["Building", Mapping[int, int]], Awaitable[None]]
"""Folds into the building's shadow, by more than this process, what is below these ends."""


class Building(Struct, kw_only=True):
    """A rebuild under way. ``lost`` has the begin of each partition whose first records the log no longer had.

    ``patience``: seconds without any progress after which it fails. ``spread`` folds large distances, if there is one.
    """

    name: str
    scope: Scope
    source: LogSource
    live: Store
    shadow: Shadow
    patience: float
    spread: Spread | None = None
    lost: dict[int, int] = {}
    switched: bool = False

    def note_exchange(self, exchange: asyncio.Future[None]) -> None:
        """Remember whether the shadow was made the live store, however it ends for those who wait."""
        self.switched = not exchange.cancelled() and exchange.exception() is None

    async def follow(self) -> None:
        """Fold until the shadow is close behind the live store, or at the end of what was ordered."""
        for _ in range(_ROUNDS):
            ends = await self.ends()
            await self._begin(ends)
            behind = sum(max(0, end - self.shadow.positions[which]) for which, end in ends.items())
            if behind > BATCH_RECORDS and self.spread is not None:
                await self._patiently(self._spread(self.spread, ends))
            else:
                await self._patiently(self.shadow.advance(ends))
            if behind < BATCH_RECORDS or self.scope.cut:
                break

    async def ends(self) -> dict[int, int]:
        """Where to end as of now: where the live store stands, or as ordered."""
        if self.scope.cut:
            return self.scope.ends
        return {status.partition: status.position for status in await self.live.partitions()}

    async def advance(self, ends: Mapping[int, int]) -> None:
        """Fold every record below the given ends."""
        await self._begin(ends)
        await self._patiently(self.shadow.advance(ends))

    async def bring_notes(self) -> None:
        """Copy what people noted in the live store. Raises StoreRefused where a note comes too late for what was folded."""
        kept = await self.shadow.store.notes()
        positions = {status.partition: status.position for status in await self.shadow.store.partitions()}
        for note in await self.live.notes():
            if note in kept:
                continue
            if note.kind == "set_aside" and note.offset < positions.get(note.partition, 0):
                raise StoreRefused(
                    f"the record at offset {note.offset} of partition {note.partition} was set aside after {self.name} had "
                    f"folded it: build it anew; {_DROP.format(name=self.name)}"
                )
            await self.shadow.store.add_note(note)

    async def compare(self) -> Comparison:
        """Bring the shadow to where a frozen view of the live store stands, and compare all that a digest covers."""
        view = await self.live.snapshot()
        try:
            await self.advance(await view.positions())
            beside = await self.shadow.store.snapshot()
            try:
                return await compare(view, beside)
            finally:
                await beside.close()
        finally:
            await view.close()

    async def unverifiable(self) -> int:
        """How many runs of the live store began before the log does."""
        view = await self.live.snapshot()
        try:
            return await count_unverifiable(view, self.lost)
        finally:
            await view.close()

    async def _begin(self, ends: Mapping[int, int]) -> None:
        new = ends.keys() - self.shadow.positions.keys()
        if not new:
            return
        if self.scope.cut:
            await self.shadow.begin(self.scope.begins)
            return
        firsts = {each.partition: each.first_offset for each in await self.live.partitions() if each.partition in new}
        held = await self.source.ranges(sorted(new))
        await self.shadow.begin({which: max(firsts[which], held[which].begin) for which in new})
        # By what the shadow has, not by what the log still has: retention may follow on its heels.
        begun = {each.partition: each.first_offset for each in await self.shadow.store.partitions()}
        self.lost |= {which: begun[which] for which in new if begun[which] > firsts[which]}

    async def _spread(self, spread: Spread, ends: Mapping[int, int]) -> None:
        before = dict(self.shadow.positions)
        try:
            await spread(self, ends)
        finally:
            await self.shadow.claim()
        self.shadow.done += sum(self.shadow.positions[which] - at for which, at in before.items())

    async def _patiently(self, work: Coroutine[Any, Any, None]) -> None:
        await patient(
            work,
            seen=lambda: self.shadow.moved,
            seconds=self.patience,
            told=lambda: ", ".join(f"partition {which} at {at}" for which, at in sorted(self.shadow.positions.items())),
        )


@asynccontextmanager
async def rebuilding(
    source: LogSource,
    live: Store,
    shadows: Shadows,
    rules: Rules,
    *,
    order: Order,
    patience: float,
    progress: Progress | None = None,
    spread: Spread | None = None,
    decode: Decode = decode_lean,
) -> AsyncIterator[Building]:
    """The shadow that there is, to go on with, or a new one; it is kept when the block ends, however it ends.

    Raises StoreRefused where the live store is of another log, or the shadow that there is was begun in another way.
    """
    async with shadows.alone():
        await check_log(source, live, rules)
        name, scope = await _shadow_of(shadows, source, live, order)
        store = shadows.opened(name)
        await store.open()
        try:
            await _bind(store, name, source, rules)
            shadow = Shadow(
                source,
                store,
                rules=rules,
                decode=decode,
                set_aside=set_aside_of(await live.notes()),
                key=None if scope.run_id is None else scope.run_id.encode(),
                progress=progress,
            )
            building = Building(
                name=name, scope=scope, source=source, live=live, shadow=shadow, patience=patience, spread=spread
            )
            await building.bring_notes()
            yield building
            await shadow.release()
        finally:
            await store.close()


async def _shadow_of(shadows: Shadows, source: LogSource, live: Store, order: Order) -> tuple[str, Scope]:
    for standing in await shadows.standing():
        if standing.role != SHADOW or standing.scope is None:
            continue
        scope = decode_scope(standing.scope)
        if scope.words != order.words:
            raise StoreRefused(
                f"{standing.name} was begun with {scope.words or 'no bounds'}, not with {order.words or 'no bounds'}: go on "
                f"with it as it was begun, or {_DROP.format(name=standing.name)}"
            )
        return standing.name, scope
    scope = await scope_of(order, source, live)
    return await shadows.make(scope=scope.encoded()), scope


async def _bind(store: Store, name: str, source: LogSource, rules: Rules) -> None:
    try:
        await bind(store, await own_identity(source, rules))
    except StoreRefused as error:
        raise StoreRefused(f"{name} cannot be gone on with ({error}); {_DROP.format(name=name)}") from error
