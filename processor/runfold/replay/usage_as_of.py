"""Usage as it was known at a cut, and what has changed in it since.

The store keeps enough to tell without the log: a run's row names the record by which it became final, every later
difference is a journal entry with its own record. So what was known is what is known now, less what stands behind the cut.
A store that has not come as far as the cut cannot tell; then a shadow is folded from the log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

from msgspec import Struct

from runfold.fold.changes import JournalEntry
from runfold.fold.rules import Rules
from runfold.fold.state import RunState, decode_state
from runfold.fold.usage import SUMS, Booking, BucketKey, Dimensions, add
from runfold.log.port import LogSource
from runfold.replay.as_of import Origin, folded_to
from runfold.replay.cut import Cut
from runfold.replay.run_range import check_log
from runfold.replay.shadow import Progress
from runfold.replay.take_over import RunKey, journal_of
from runfold.store.digest import in_chunks
from runfold.store.port import Store
from runfold.store.snapshot import RUN_COLUMNS, USAGE_COLUMNS, StoreSnapshot
from runfold.store.usage_query import UsageRow

_MINUTE, _BODY = RUN_COLUMNS.index("minute"), RUN_COLUMNS.index("body")
_STATUS: Final = USAGE_COLUMNS.index("status")


class Period(NamedTuple):
    """Unix minutes, half-open; None is without a bound."""

    begin: int | None = None
    end: int | None = None

    def __contains__(self, minute: object) -> bool:
        assert isinstance(minute, int)
        return (self.begin is None or self.begin <= minute) and (self.end is None or minute < self.end)


EVER: Final = Period()


class UsageChange(Struct, frozen=True, kw_only=True):
    """What a record behind the cut did to usage: a run that became final only then, or a difference booked since.

    ``timestamp`` is the record's, in Unix milliseconds; ``sums`` are in the order of :data:`runfold.fold.usage.SUMS`.
    """

    kind: Literal["late", "corrected"]
    partition: int
    offset: int
    timestamp: int
    run_id: str
    bucket: BucketKey
    sums: tuple[int, ...]


class UsageAsOf(Struct, frozen=True, kw_only=True):
    """Buckets as known at the cut, ordered. ``changes`` by place in the log; None where the store has not come so far."""

    rows: list[UsageRow]
    changes: list[UsageChange] | None
    origin: Origin


async def usage_as_of(
    source: LogSource,
    store: Store,
    rules: Rules,
    *,
    cut: Cut,
    period: Period = EVER,
    workspace: Path,
    from_log: bool = False,
    progress: Progress | None = None,
) -> UsageAsOf:
    """Usage of a period as known at the cut: from the store, or, where it is behind the cut, ``from_log``.

    Raises as :func:`runfold.replay.as_of.folded_to` does, and StoreRefused where the store is of another log.
    """
    await check_log(source, store, rules)
    known = await _known_to(store, cut, period)
    if known is not None and not from_log:
        return known
    async with folded_to(source, store, rules, cut=cut, workspace=workspace, progress=progress) as then:
        rows = await then.usage(begin=period.begin, end=period.end)
    return UsageAsOf(rows=rows, changes=None if known is None else known.changes, origin="log")


async def usage_known_to_store(
    source: LogSource, store: Store, rules: Rules, *, cut: Cut, period: Period = EVER
) -> UsageAsOf | None:
    """As :func:`usage_as_of`, but never from the log: None where the store has not come as far as the cut."""
    await check_log(source, store, rules)
    return await _known_to(store, cut, period)


async def _known_to(store: Store, cut: Cut, period: Period) -> UsageAsOf | None:
    snapshot = await store.snapshot()
    try:
        positions = await snapshot.positions()
        if any(positions.get(partition, 0) < end for partition, end in cut.items()):
            return None
        changes = await _changes_since(snapshot, cut, period)
        return UsageAsOf(rows=await _without(snapshot, changes, period), changes=changes, origin="store")
    finally:
        await snapshot.close()


async def _changes_since(snapshot: StoreSnapshot, cut: Cut, period: Period) -> list[UsageChange]:
    """What stands behind the cut, by place. A late run's own differences are in what it adds now, and not told apart."""
    late = [change async for change in _late_runs(snapshot, cut)]
    keys: set[RunKey] = {(change.partition, change.run_id) for change in late}
    corrected = [
        _corrected(entry)
        for partition, end in cut.items()
        for entry in journal_of(snapshot, partition)
        if entry.offset >= end and (partition, entry.run_id) not in keys
    ]
    changes = [change for change in (*late, *corrected) if change.bucket.minute in period]
    return sorted(changes, key=lambda change: (change.partition, change.offset))


async def _late_runs(snapshot: StoreSnapshot, cut: Cut) -> AsyncIterator[UsageChange]:
    async for chunk in in_chunks(snapshot.scan_runs()):
        for partition, row in chunk:
            if row[_MINUTE] is None:
                continue
            state = decode_state(row[_BODY])  # type: ignore[arg-type]  # columns are told apart by their place
            booked = state.booked
            if booked is not None and _became_final(state).offset >= cut.get(partition, 0):
                yield _late(partition, state, booked)


class _Final(NamedTuple):
    offset: int
    timestamp: int


def _became_final(state: RunState) -> _Final:
    assert state.final_offset is not None
    assert state.final_timestamp is not None
    return _Final(state.final_offset, state.final_timestamp)


def _late(partition: int, state: RunState, booked: Booking) -> UsageChange:
    final = _became_final(state)
    return UsageChange(
        kind="late",
        partition=partition,
        offset=final.offset,
        timestamp=final.timestamp,
        run_id=state.run_id,
        bucket=booked.bucket,
        sums=booked.sums,
    )


def _corrected(entry: JournalEntry) -> UsageChange:
    return UsageChange(
        kind="corrected",
        partition=entry.partition,
        offset=entry.offset,
        timestamp=entry.timestamp,
        run_id=entry.run_id,
        bucket=entry.bucket,
        sums=entry.sums,
    )


async def _without(snapshot: StoreSnapshot, changes: list[UsageChange], period: Period) -> list[UsageRow]:
    """What the store has now, less the changes; buckets of zeros left out."""
    sums: dict[BucketKey, list[int]] = {}
    async for chunk in in_chunks(snapshot.usage()):
        for row in chunk:
            minute, *dimensions = row[:_STATUS]
            bucket = BucketKey(minute, Dimensions(*dimensions), row[_STATUS])  # type: ignore[arg-type]
            if bucket.minute in period:
                sums[bucket] = list(row[_STATUS + 1 :])  # type: ignore[arg-type]
    for change in changes:
        add(sums, change.bucket, tuple(-number for number in change.sums))
    assert all(len(told) == len(SUMS) for told in sums.values())
    return [UsageRow(bucket=bucket, sums=tuple(told)) for bucket, told in sorted(sums.items()) if any(told)]
