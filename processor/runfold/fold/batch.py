"""Folding many records of one partition at once: what the service, verify, retry and rebuild all run.

A batch is folded in memory, run by run, and each run it touched is written once. A partition is a world of its own and so
is each run in it: nothing here looks across. How the records are cut into batches never matters: any batching gives the
same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter

from runfold.fold.admit import Decode, admit, run_of_key
from runfold.fold.changes import Changes, JournalEntry, Letter, PositionChange, RunChange
from runfold.fold.outcome import APPLIED, REJECTED, SET_ASIDE, Rejection, Verdict
from runfold.fold.record import Record, hash_of_record
from runfold.fold.rules import DEFAULT_RULES, Rules
from runfold.fold.run import fold
from runfold.fold.short_cut import Held, Left, Runs, ShortCut, Unsettled, nothing_met, short_cut
from runfold.fold.state import RunState, decode_state, encode_state, number_seen
from runfold.fold.usage import Booking, add, differences
from runfold_schemas.codec import decode_lean
from runfold_schemas.events import Event

Watch = Callable[[Record, Event | None, RunState | None, Verdict], None]
"""Told of every record after it was folded, run by run: the record, its event, its run and the verdict."""

_NOT_HELD: Held = (0, None)
_ALL: Left = (0, None)
_offset_of = attrgetter("offset")


class PartitionFold:
    """The runs of one partition that are in hand, and the records folded into them.

    In hand are rows' bodies: the objects of open runs lie all over the memory, and reaching them costs more than decoding.

    ``compiled`` lets it take the short cut, where that was built: faster, with the same result. ``to_come``, where the store
    has no run of the partition yet, is about how many records are to come: then only runs are loaded that were met before.

    Use: ``absent`` names the runs to load, ``take_in`` gives them, ``fold`` folds, and after the commit ``settle``. With the
    short cut that comes before the next ``fold``: a run that has ended is in hand no more, and in the store not before.
    After a failed commit throw the object away: what it holds is ahead of the store.
    """

    def __init__(
        self,
        partition: int,
        *,
        rules: Rules = DEFAULT_RULES,
        decode: Decode = decode_lean,
        set_aside: Mapping[int, str] | None = None,
        most_runs: int = 20_000,
        watch: Watch | None = None,
        compiled: bool = True,
        to_come: int | None = None,
    ) -> None:
        self.partition = partition
        self._rules = rules
        self._decode = decode
        self._set_aside = set_aside or {}
        self._most_runs = most_runs
        self._watch = watch
        self._short_cut = short_cut(partition, rules) if compiled else None
        self._met = None if to_come is None or not compiled else nothing_met(to_come)
        self._held: dict[bytes | None, Held] = {}
        self._touched: set[bytes | None] = set()
        self._unsettled: list[Unsettled] = []
        self._sorted: tuple[Sequence[Record] | None, Runs] = (None, {})

    def absent(self, records: Sequence[Record]) -> list[str]:
        """The runs of these records to load: not in hand. The same list may be given to ``fold``: leave it as it is."""
        runs, held = self._by_run(records), self._held
        self._sorted = records, runs  # sorting them by run is done once
        # Not runs.keys() - held.keys(): that looks at all that is held, for every batch, however small.
        keys = [key for key in runs if key not in held]
        named = map(run_of_key, keys if self._met is None else self._met.before(keys))
        return [run_id for run_id in named if run_id is not None]

    def take_in(self, rows: Iterable[tuple[str, int, bytes]]) -> None:
        """Take runs that the store has in hand: (run_id, handle, body)."""
        for run_id, handle, body in rows:
            self._held[run_id.encode()] = handle, body

    def fold(self, records: Sequence[Record], *, next_position: int, expected: int, changes: Changes) -> None:
        """Fold records, adding to ``changes`` what the store has to write; each run's own records in their order.

        ``expected`` is the position that the store has now, ``next_position`` the one after these records.
        """
        tally: dict[str, int] = {}
        batch = Changes(runs=changes.runs, usage=changes.usage)
        self._fold_runs(records, batch, tally)
        changes.tally[self.partition] = tally
        changes.letters += sorted(batch.letters, key=_offset_of)
        changes.journal += sorted(batch.journal, key=_offset_of)
        if records:
            last = records[-1]
            move = PositionChange(expected, next_position, last.offset, hash_of_record(last))
            changes.positions[self.partition] = move

    def _fold_runs(self, records: Sequence[Record], batch: Changes, tally: dict[str, int]) -> None:
        held, swift = self._held, self._short_cut_for(records)
        if swift is not None and self._touched:
            raise RuntimeError("what was folded before has not been settled")
        runs = self._sorted[1] if self._sorted[0] is records else self._by_run(records)
        self._sorted = (None, {})
        self._touched |= runs.keys()
        left: Mapping[bytes | None, Left] = dict.fromkeys(runs, _ALL)
        if swift is not None:
            applied, left = swift.fold(runs, held, batch, self._unsettled)
            if applied:
                tally[APPLIED] = tally.get(APPLIED, 0) + applied
        for key, (taken, half_way) in left.items():
            handle, before = held.get(key, _NOT_HELD)
            body = before if half_way is None else half_way.body
            row = self._fold_simply(handle, body, runs[key][taken:], batch, tally)
            if row is None:
                continue
            if row.body != before:  # else nothing but dead letters came
                batch.runs.append(row)
                held[key] = handle, row.body
            if not handle or row.minute is not None:
                self._unsettled.append((key, row))

    def _fold_simply(
        self, handle: int, body: bytes | None, of_run: Sequence[Record], batch: Changes, tally: dict[str, int]
    ) -> RunChange | None:
        """Fold a run's records one by one; its row after them, None where they are dead letters of a run that has none."""
        state = None if body is None else decode_state(body)
        for record in of_run:
            state = self._fold_one(state, record, batch, tally)
        return None if state is None else row_of(self.partition, handle, state)

    def settle(self, handles: Mapping[tuple[int, str], int]) -> None:
        """The changes are committed: learn the new rows' handles, let go of runs that ended and of too many others."""
        held = self._held
        for key, row in self._unsettled:
            if row.minute is None:
                held[key] = handles[self.partition, row.run_id], row.body
            else:
                held.pop(key, None)
        if len(held) > self._most_runs:
            for untouched in held.keys() - self._touched:
                del held[untouched]
        self._touched, self._unsettled = set(), []

    def _by_run(self, records: Sequence[Record]) -> Runs:
        return _by_run(records) if self._short_cut is None else self._short_cut.by_run(records)

    def _short_cut_for(self, records: Sequence[Record]) -> ShortCut | None:
        """The short cut, if it may be taken: nobody watches, and every record is to be read, and as usual."""
        if self._watch is not None or self._decode is not decode_lean:
            return None
        first, last = (records[0].offset, records[-1].offset) if records else (0, 0)
        return None if any(first <= offset <= last for offset in self._set_aside) else self._short_cut

    def _fold_one(
        self, state: RunState | None, record: Record, batch: Changes, tally: dict[str, int]
    ) -> RunState | None:
        event, before = self._admit(record), None if state is None else state.booked
        verdict: Verdict
        if isinstance(event, Rejection):
            verdict = event
            if state is not None:
                number_seen(state, event.source, event.sequence)
        else:
            state, verdict = fold(state, event, self._rules)
            if state.first_offset < 0:
                state.first_offset = record.offset
            if not isinstance(verdict, Rejection):
                state.last_offset = record.offset
        if isinstance(verdict, Rejection):
            batch.letters.append(letter_of(self.partition, record, verdict))
        if state is not None:
            self._book(record, state, before, batch)
        outcome = REJECTED if isinstance(verdict, Rejection) else verdict
        tally[outcome] = tally.get(outcome, 0) + 1
        if self._watch is not None:
            self._watch(record, event if isinstance(event, Event) else None, state, verdict)
        return state

    def _admit(self, record: Record) -> Event | Rejection:
        if record.offset in self._set_aside:  # not even decoded: it has killed processes
            return Rejection(reason=SET_ASIDE, detail=self._set_aside[record.offset])
        return admit(record, self._rules, self._decode)

    def _book(self, record: Record, state: RunState, before: Booking | None, batch: Changes) -> None:
        """Add to usage by how much the run's booking has changed; to the journal too, unless it became final just now."""
        after = state.booked
        if before is None:
            if after is not None:
                state.final_offset, state.final_timestamp = record.offset, record.timestamp
                add(batch.usage, after.bucket, after.sums)
            return
        for bucket, sums in differences(before, after):
            add(batch.usage, bucket, sums)
            batch.journal.append(
                JournalEntry(
                    partition=self.partition,
                    offset=record.offset,
                    run_id=state.run_id,
                    timestamp=record.timestamp,
                    bucket=bucket,
                    sums=sums,
                )
            )


def _by_run(records: Iterable[Record]) -> Runs:
    """The records by the run that their key names, each run's in their order."""
    runs: dict[bytes | None, list[Record]] = {}
    for record in records:
        key = record.key
        of_run = runs.get(key)
        if of_run is None:
            runs[key] = [record]
        else:
            of_run.append(record)
    return runs


def letter_of(partition: int, record: Record, rejection: Rejection) -> Letter:
    """The dead letter that keeps a rejected record."""
    return Letter(
        partition=partition,
        offset=record.offset,
        timestamp=record.timestamp,
        reason=rejection.reason,
        detail=rejection.detail,
        run_id=run_of_key(record.key),
        key=record.key,
        value=record.value,
        headers=record.headers,
    )


_new = tuple.__new__  # a named tuple without the detour over its own __new__: half the time


def row_of(partition: int, handle: int, state: RunState) -> RunChange:
    """A run's row, as stores write it."""
    ended_at = state.ended_at
    return _new(
        RunChange,
        (
            partition,
            state.run_id,
            handle,
            state.thread_id,
            state.status,
            state.first_at // 1000,
            state.flags,
            state.dimensions,
            None if ended_at is None else ended_at // 60_000,
            state.final_timestamp,
            encode_state(state),
        ),
    )
