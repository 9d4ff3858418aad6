"""Taking over into a shadow, as the store has them, the runs that the log cannot speak about; the rest can be compared.

Two kinds of runs are spared the comparison: those whose first records the log has lost, and those that have letters which
today's code could read. Memory is bounded by the letters and journal entries there are, whatever the number of runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any, Final, TypeVar

from msgspec import Struct

from runfold.fold.changes import Changes, JournalEntry, Letter, RunChange
from runfold.fold.state import RunState, decode_state
from runfold.fold.usage import SUMS, Booking, BucketKey, Dimensions
from runfold.replay.run_range import every_letter
from runfold.replay.shadow import Shadow
from runfold.store.digest import in_chunks
from runfold.store.port import DoorChange
from runfold.store.rows import decode_headers
from runfold.store.snapshot import JOURNAL_COLUMNS, LETTER_COLUMNS, RUN_COLUMNS, Row, StoreSnapshot
from runfold_schemas.codec import UNREADABLE

T = TypeVar("T")
RunKey = tuple[int, str]
"""(partition, run_id)."""
Place = tuple[int, int]
"""(partition, offset)."""

_CHUNK: Final = 1_000


class Spared(Struct, frozen=True, kw_only=True):
    """Which runs are taken over: ``runs``, and those with a record below the log's begin of their partition."""

    runs: AbstractSet[RunKey] = frozenset()
    begins: Mapping[int, int] = {}

    def takes_run(self, partition: int, row: dict[str, Any]) -> bool:
        if (partition, row["run_id"]) in self.runs:
            return True
        begin = self.begins.get(partition)
        if begin is None:
            return False
        state = state_of(row["body"])
        return state is not None and state.first_offset < begin

    def takes_letter(self, partition: int, letter: Letter, taken: AbstractSet[RunKey]) -> bool:
        return letter.offset < self.begins.get(partition, 0) or (partition, letter.run_id) in taken


class WithoutLetters(Struct, frozen=True, kw_only=True):
    """A snapshot with some letters left out, by (partition, offset): those of no run, which nothing can take over."""

    whole: StoreSnapshot
    left_out: AbstractSet[Place]

    async def positions(self) -> dict[int, int]:
        return await self.whole.positions()

    def runs(self, partition: int) -> Iterator[Row]:
        return self.whole.runs(partition)

    def scan_runs(self) -> Iterator[tuple[int, Row]]:
        return self.whole.scan_runs()

    def letters(self, partition: int) -> Iterator[Row]:
        return (row for row in self.whole.letters(partition) if (partition, row[0]) not in self.left_out)

    def journal(self, partition: int) -> Iterator[Row]:
        return self.whole.journal(partition)

    def usage(self) -> Iterator[Row]:
        return self.whole.usage()

    async def close(self) -> None:
        await self.whole.close()


async def take_over(snapshot: StoreSnapshot, shadow: Shadow, spared: Spared) -> int:
    """Put the spared runs into the shadow as the snapshot has them, in place of what was folded; returns how many.

    1. What the shadow has of them is taken out, through its door.
    2. Their rows and usage come in, then their letters and journal.
    """
    partitions = list(await snapshot.positions())
    noted = {key for partition in partitions for key in _noted(snapshot, partition)}
    taken, count = set(spared.runs), 0
    for partition, run_id in spared.runs:
        await _take_out(shadow, partition, run_id)
    await shadow.claim()
    async for chunk in in_chunks(snapshot.scan_runs()):
        told = ((partition, _run_columns(row)) for partition, row in chunk)
        rows = [(partition, row) for partition, row in told if spared.takes_run(partition, row)]
        if not rows:
            continue
        keys = [(partition, row["run_id"]) for partition, row in rows]
        taken.update(key for key in keys if key in noted)
        await _take_out_known(shadow, [key for key in keys if key not in spared.runs], taken)
        await shadow.apply(_changes_of(rows))
        count += len(rows)
    for partition in partitions:
        await _bring_events(snapshot, shadow, partition, spared, taken)
    return count


def state_of(body: Any) -> RunState | None:
    """The state in a row's body, None where it is damaged, were it not even bytes."""
    try:
        return decode_state(body)
    except UNREADABLE:
        return None


def letters_of(snapshot: StoreSnapshot, partition: int) -> Iterator[Letter]:
    """The partition's letters in a snapshot."""
    for row in snapshot.letters(partition):
        told: dict[str, Any] = dict(zip(LETTER_COLUMNS, row, strict=True))
        try:
            told["headers"] = decode_headers(told["headers"])
        except UNREADABLE:  # damaged: found where the rows are compared
            told["headers"] = ()
        yield Letter(partition=partition, **told)


def _noted(snapshot: StoreSnapshot, partition: int) -> Iterator[RunKey]:
    """The runs that have letters or journal entries, with repeats."""
    for letter in letters_of(snapshot, partition):
        if letter.run_id is not None:
            yield partition, letter.run_id
    for entry in journal_of(snapshot, partition):
        yield partition, entry.run_id


def journal_of(snapshot: StoreSnapshot, partition: int) -> Iterator[JournalEntry]:
    """The partition's journal in a snapshot."""
    for row in snapshot.journal(partition):
        told: dict[str, Any] = dict(zip(JOURNAL_COLUMNS, row, strict=True))
        yield JournalEntry(
            partition=partition,
            offset=told["offset"],
            run_id=told["run_id"],
            timestamp=told["timestamp"],
            bucket=BucketKey(told["minute"], _dimensions(told), told["status"]),
            sums=tuple(told[name] for name in SUMS),
        )


def _run_columns(row: Row) -> dict[str, Any]:
    return dict(zip(RUN_COLUMNS, row, strict=True))


def _dimensions(told: dict[str, Any]) -> Dimensions:
    return Dimensions(*(told[name] for name in Dimensions._fields))


def _changes_of(rows: list[tuple[int, dict[str, Any]]]) -> Changes:
    changes = Changes()
    for partition, told in rows:
        named = {name: told[name] for name in RunChange._fields if name in told}
        changes.runs.append(RunChange(partition=partition, handle=0, dimensions=_dimensions(told), **named))
        state = state_of(told["body"])
        if state is not None and state.booked is not None:
            _add(changes.usage, state.booked, sign=1)
    return changes


def _add(usage: dict[BucketKey, list[int]], booked: Booking, *, sign: int) -> None:
    sums = usage.setdefault(booked.bucket, [0] * len(SUMS))
    sums[:] = [total + sign * number for total, number in zip(sums, booked.sums, strict=True)]


async def _take_out_known(shadow: Shadow, keys: list[RunKey], taken: AbstractSet[RunKey]) -> None:
    """Of runs from before the log's begin a shadow knows few: those that went on after it."""
    by_partition: dict[int, list[str]] = {}
    for partition, run_id in keys:
        by_partition.setdefault(partition, []).append(run_id)
    for partition, run_ids in by_partition.items():
        known = await shadow.store.load(partition, run_ids)
        for run_id in run_ids:
            if run_id in known or (partition, run_id) in taken:
                await _take_out(shadow, partition, run_id)
    await shadow.claim()


async def _take_out(shadow: Shadow, partition: int, run_id: str) -> None:
    row = (await shadow.store.load(partition, [run_id])).get(run_id)
    letters = [
        letter.offset async for letter in every_letter(shadow.store, run_id=run_id) if letter.partition == partition
    ]
    if row is None and not letters:
        return
    changes = Changes()
    booked = None if row is None else decode_state(row.body).booked
    if booked is not None:
        _add(changes.usage, booked, sign=-1)
    await shadow.store.write_through_door(
        DoorChange(
            partition=partition,
            run_id=run_id,
            before=None if row is None else row.body,
            before_letters=letters,
            changes=changes,
        )
    )


async def _bring_events(
    snapshot: StoreSnapshot, shadow: Shadow, partition: int, spared: Spared, taken: AbstractSet[RunKey]
) -> None:
    letters = (letter for letter in letters_of(snapshot, partition) if spared.takes_letter(partition, letter, taken))
    for chunk in _chunks(letters):
        await shadow.apply(Changes(letters=chunk))
    # In one piece: a record's entries are numbered as they come.
    journal = [entry for entry in journal_of(snapshot, partition) if (partition, entry.run_id) in taken]
    if journal:
        await shadow.apply(Changes(journal=journal))


def _chunks(rows: Iterable[T]) -> Iterator[list[T]]:
    left = iter(rows)
    while chunk := list(islice(left, _CHUNK)):
        yield chunk
