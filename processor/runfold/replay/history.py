"""A run's history: every record of it in the log, what became of each, and what each changed.

It is read from the run's own range of the log alone, by the same refold that a retry runs, with today's code. What may
change here is what people are told; nothing is decided.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from msgspec import Struct

from runfold.fold.admit import Decode
from runfold.fold.batch import PartitionFold
from runfold.fold.changes import Changes
from runfold.fold.outcome import EXPLANATIONS, REJECTED, SET_ASIDE, Flag, Outcome, Rejection, Verdict
from runfold.fold.projection import project
from runfold.fold.record import Record
from runfold.fold.rules import Rules
from runfold.fold.state import RunState
from runfold.fold.usage import Booking, BucketKey, differences
from runfold.log.port import LogSource
from runfold.replay.refold import refold
from runfold.replay.run_range import check_log, find_ranges
from runfold.store.notes import set_aside_of
from runfold.store.port import Store
from runfold_schemas.codec import Unknown, decode_lean
from runfold_schemas.events import Event
from runfold_schemas.upcast import tag_of


class Change(Struct, frozen=True, kw_only=True):
    """A field of the Run before and after a record; None before the run was known."""

    before: Any
    after: Any


class UsageMove(Struct, frozen=True, kw_only=True):
    """What a record added to a usage bucket, in the order of :data:`runfold.fold.usage.SUMS`."""

    bucket: BucketKey
    sums: tuple[int, ...]


class HistoryEntry(Struct, frozen=True, kw_only=True):
    """One record of a run. ``timestamp`` is the record's, ``occurred_at`` the event's, both in Unix milliseconds.

    What cannot be read of a dead letter is None. ``changed`` maps fields of the Run, and beside them ``flags`` (names) and
    ``missing`` (source hash, first, last), to what they were and became; ``reason`` stands for a rejected record alone.
    """

    partition: int
    offset: int
    timestamp: int
    type: str | None
    event_id: str | None
    occurred_at: int | None
    source: str | None
    sequence: int | None
    outcome: Outcome
    explanation: str
    reason: str | None
    changed: dict[str, Change]
    usage: list[UsageMove]


async def history(
    source: LogSource, store: Store, rules: Rules, run_id: str, *, decode: Decode = decode_lean
) -> list[HistoryEntry]:
    """Every record of the run, by partition and offset; empty where the store knows nothing of it.

    Raises StoreRefused where the store is of another log, RefoldRefused where the log lacks a part of the run's range.
    """
    await check_log(source, store, rules)
    set_aside = set_aside_of(await store.notes())
    entries: list[HistoryEntry] = []
    for part in await find_ranges(source, store, run_id):
        teller = _Teller(part.partition, decode)
        aside = set_aside.get(part.partition)
        await refold(source, part, rules=rules, set_aside=aside, decode=decode, watch=teller.watch)
        entries += teller.entries
    return entries


async def follow(
    source: LogSource, store: Store, rules: Rules, run_id: str, *, wait: float = 1.0, decode: Decode = decode_lean
) -> AsyncIterator[HistoryEntry]:
    """The run's history, and then every further record of it as it is published, for ever; also of a run yet to come.

    It does not wait for the store: what is published is told at once. ``wait`` is in seconds. Raises as :func:`history`.
    """
    await check_log(source, store, rules)
    set_aside, key = set_aside_of(await store.notes()), run_id.encode()
    positions = {status.partition: status.position for status in await store.partitions()}
    known = {part.partition: part for part in await find_ranges(source, store, run_id)}
    tellers: dict[int, _Teller] = {}
    folds: dict[int, PartitionFold] = {}
    for partition, held in (await source.ranges(range(await source.partitions()))).items():
        teller = tellers[partition] = _Teller(partition, decode)
        fold = folds[partition] = PartitionFold(
            partition, rules=rules, decode=decode, set_aside=set_aside.get(partition), watch=teller.watch
        )
        positions.setdefault(partition, held.begin)
        if part := known.get(partition):
            async for records in source.read(partition, begin=part.begin, end=part.end, key=key):
                _fold(fold, records)
                for entry in teller.take():
                    yield entry
    source.assign(positions)
    while True:
        for partition, published in (await source.fetch(most_records=10_000, most_bytes=2**24, wait=wait)).items():
            _fold(folds[partition], [record for record in published if record.key == key])
            for entry in tellers[partition].take():
                yield entry


def _fold(fold: PartitionFold, records: Sequence[Record]) -> None:
    if records:
        fold.fold(records, next_position=records[-1].offset + 1, expected=records[0].offset, changes=Changes())


class _Teller:
    """Told of every record by the fold, it remembers how the run looked before."""

    def __init__(self, partition: int, decode: Decode) -> None:
        self.entries: list[HistoryEntry] = []
        self._partition, self._decode = partition, decode
        self._looks: dict[str, Any] = {}
        self._booked: Booking | None = None

    def take(self) -> list[HistoryEntry]:
        """What has been told since the last time."""
        entries, self.entries = self.entries, []
        return entries

    def watch(self, record: Record, event: Event | None, state: RunState | None, verdict: Verdict) -> None:
        rejection = verdict if isinstance(verdict, Rejection) else None
        looks, booked = _looks_of(state), None if state is None else state.booked
        told = self._told(record, event, rejection)
        self.entries.append(
            HistoryEntry(
                partition=self._partition,
                offset=record.offset,
                timestamp=record.timestamp,
                **told,
                outcome=verdict if not isinstance(verdict, Rejection) else REJECTED,
                explanation=EXPLANATIONS[verdict] if not isinstance(verdict, Rejection) else verdict.detail,
                reason=None if rejection is None else rejection.reason,
                changed=_changed(self._looks, looks),
                usage=[UsageMove(bucket=bucket, sums=sums) for bucket, sums in differences(self._booked, booked)],
            )
        )
        self._looks, self._booked = looks, booked

    def _told(self, record: Record, event: Event | None, rejection: Rejection | None) -> dict[str, Any]:
        """What the record says of itself, as far as it can be read; one that was set aside is not even decoded."""
        told = event
        if told is None and rejection is not None and rejection.reason != SET_ASIDE:
            read = self._decode(record.value)
            if not isinstance(read, Event):
                kind = read.type if isinstance(read, Unknown) else None
                return _origin(kind=kind, source=read.source, sequence=read.sequence)
            told = read
        if told is None:
            return _origin(kind=None, source=None, sequence=None)
        origin = _origin(kind=tag_of(type(told)), source=told.source, sequence=told.sequence)
        return {**origin, "event_id": told.id, "occurred_at": told.occurred_at}


def _origin(*, kind: str | None, source: str | None, sequence: int | None) -> dict[str, Any]:
    return {"type": kind, "event_id": None, "occurred_at": None, "source": source, "sequence": sequence}


def _looks_of(state: RunState | None) -> dict[str, Any]:
    if state is None:
        return {}
    flags = [flag.name.lower() for flag in Flag if state.flags & flag and flag.name]
    return {**project(state), "flags": flags, "missing": list(state.missing())}


def _changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Change]:
    """The fields that differ; of a run that was not known before, those that say something."""
    return {
        name: Change(before=before.get(name), after=after.get(name))
        for name in {**before, **after}
        if before.get(name) != after.get(name) and (name in before or after[name] not in (None, "", [], {}))
    }
