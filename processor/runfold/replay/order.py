"""What a rebuild is told to fold, as words and as offsets: a shadow keeps it, so that going on later means the same."""

from __future__ import annotations

from msgspec import Struct, json

from runfold.log.port import LogSource
from runfold.replay.run_range import RefoldRefused, find_ranges
from runfold.store.port import Store

Bound = int | dict[int, int]
"""A time in Unix milliseconds, or an offset for each partition that is named; all others are not bounded."""


class Order(Struct, frozen=True, kw_only=True):
    """Where to begin, where to end (not included), and of which run; None: all there is. ``words`` are as people gave them.

    Only the order of all there is can give a store that is switched to.
    """

    begin: Bound | None = None
    end: Bound | None = None
    run_id: str | None = None
    words: str = ""

    @property
    def cut(self) -> bool:
        return self.begin is not None or self.end is not None or self.run_id is not None


EVERYTHING = Order()


class Scope(Struct, frozen=True, kw_only=True):
    """An order in offsets: ``begins`` and ``ends`` by partition where it is cut, else empty."""

    words: str = ""
    run_id: str | None = None
    begins: dict[int, int] = {}
    ends: dict[int, int] = {}

    @property
    def cut(self) -> bool:
        return bool(self.begins)

    def encoded(self) -> str:
        return json.encode(self).decode()


def decode_scope(text: str) -> Scope:
    return json.decode(text, type=Scope)


async def scope_of(order: Order, source: LogSource, live: Store) -> Scope:
    """The order in offsets of this log, as of now. Raises RefoldRefused where there is no such run, LogError."""
    if not order.cut:
        return Scope(words=order.words)
    if order.run_id is not None:
        ranges = await find_ranges(source, live, order.run_id)
        if not ranges:
            raise RefoldRefused(f"the store has neither a row nor a dead letter of run {order.run_id}")
        begins, ends = ({part.partition: getattr(part, side) for part in ranges} for side in ("begin", "end"))
        return Scope(words=order.words, run_id=order.run_id, begins=begins, ends=ends)
    held = await source.ranges(range(await source.partitions()))
    begins = await _offsets(order.begin, source, {which: of.begin for which, of in held.items()})
    ends = await _offsets(order.end, source, {which: of.end for which, of in held.items()})
    return Scope(
        words=order.words,
        begins={which: max(of.begin, min(begins[which], of.end)) for which, of in held.items()},
        ends={which: min(max(ends[which], begins[which], of.begin), of.end) for which, of in held.items()},
    )


async def _offsets(bound: Bound | None, source: LogSource, default: dict[int, int]) -> dict[int, int]:
    if bound is None:
        return default
    if isinstance(bound, dict):
        return {which: bound.get(which, offset) for which, offset in default.items()}
    return await source.offsets_for_time(list(default), bound)
