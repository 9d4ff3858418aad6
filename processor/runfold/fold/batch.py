"""Folding many records of one partition at once: what the service, verify, retry and rebuild all run.

A batch is folded in memory, and each run it touched is written once. A partition is a world of its own: nothing here looks
across. How the records are cut into batches never matters: any batching gives the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from runfold.fold.admit import DAY, EARLIEST, READABLE, Decode, admit, run_of_key
from runfold.fold.changes import Changes, JournalEntry, Letter, PositionChange, RunChange
from runfold.fold.fast import begin, follow
from runfold.fold.outcome import APPLIED, REJECTED, SET_ASIDE, Rejection, Verdict
from runfold.fold.record import Record, hash_of_record
from runfold.fold.rules import DEFAULT_RULES, Rules
from runfold.fold.run import fold, rebook
from runfold.fold.state import RunState, decode_state, encode_state, number_seen
from runfold.fold.usage import Booking, differences
from runfold_schemas.codec import decode_lean
from runfold_schemas.events import Event

Watch = Callable[[Record, Event | None, RunState | None, Verdict], None]
"""Told of every record after it was folded: the record, its event, its run and the verdict."""


class PartitionFold:
    """The runs of one partition that are in hand, and the records folded into them.

    Use: ``absent`` names the runs to load, ``take_in`` gives them, ``fold`` folds, and after the commit ``settle``.
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
    ) -> None:
        self.partition = partition
        self._rules = rules
        self._decode = decode
        self._set_aside = set_aside or {}
        self._most_runs = most_runs
        self._watch = watch
        self._runs: dict[bytes, RunState] = {}
        self._handles: dict[bytes, int] = {}
        self._touched: dict[bytes, None] = {}

    def absent(self, records: Iterable[Record]) -> list[str]:
        """The runs of these records that are not in hand."""
        keys = {record.key for record in records if record.key}
        named = (run_of_key(key) for key in keys if key not in self._runs)
        return [run_id for run_id in named if run_id is not None]

    def take_in(self, rows: Iterable[tuple[str, int, bytes]]) -> None:
        """Take runs that the store has in hand: (run_id, handle, body)."""
        for run_id, handle, body in rows:
            key = run_id.encode()
            self._runs[key] = decode_state(body)
            self._handles[key] = handle

    def fold(self, records: Sequence[Record], *, next_position: int, expected: int, changes: Changes) -> None:
        """Fold records in order, adding to ``changes`` what the store has to write.

        ``expected`` is the position that the store has now, ``next_position`` the one after these records.
        """
        runs, rules, decode, touched = self._runs, self._rules, self._decode, self._touched
        set_aside, watch, largest = self._set_aside, self._watch, rules.largest_value
        counts: dict[str, int] = {}
        for record in records:
            key, value, published = record.key, record.value, record.timestamp
            if set_aside and record.offset in set_aside:  # not even decoded: it has killed processes
                event: Event | Rejection = Rejection(reason=SET_ASIDE, detail=set_aside[record.offset])
            elif not (
                type(event := decode(value)) in READABLE  # type: ignore[assignment]
                and event.run_id.encode() == key  # type: ignore[union-attr]
                and EARLIEST <= event.occurred_at <= published + DAY  # type: ignore[union-attr]
                and len(value) <= largest  # type: ignore[arg-type]
            ):
                event = admit(record, rules, decode)
            state = runs.get(key) if key is not None else None
            if type(event) is Rejection:
                verdict: Verdict = event
                self._reject(record, event, state, changes)
            else:
                before = None if state is None else state.booked
                state, verdict = self._fold_one(state, event)  # type: ignore[arg-type]
                runs[key] = state  # type: ignore[index]
                touched[key] = None  # type: ignore[index]
                if state.first_offset < 0:
                    state.first_offset = record.offset
                if type(verdict) is Rejection:
                    self._letter(record, verdict, changes)
                else:
                    state.last_offset = record.offset
                if state.booked is not before:
                    self._book(record, state, before, changes)
            outcome = REJECTED if type(verdict) is Rejection else verdict
            counts[outcome] = counts.get(outcome, 0) + 1  # type: ignore[index, arg-type]
            if watch is not None:
                watch(record, event if isinstance(event, Event) else None, state, verdict)
        changes.tally[self.partition] = counts
        if records:
            last = records[-1]
            changes.positions[self.partition] = PositionChange(
                expected, next_position, last.offset, hash_of_record(last)
            )
        self._write_runs(changes)

    def settle(self, handles: Mapping[tuple[int, str], int]) -> None:
        """The changes are committed: learn the new rows' handles, let go of runs that ended and of too many others."""
        runs = self._runs
        for key in self._touched:
            state = runs[key]
            if state.ended_at is not None:
                del runs[key]
                self._handles.pop(key, None)
            elif key not in self._handles:
                self._handles[key] = handles[self.partition, state.run_id]
        if len(runs) > self._most_runs:
            for key in [key for key in runs if key not in self._touched]:
                del runs[key], self._handles[key]
        self._touched.clear()

    def _write_runs(self, changes: Changes) -> None:
        handles = self._handles
        for key in self._touched:
            changes.runs.append(row_of(self.partition, handles.get(key, 0), self._runs[key]))

    def _fold_one(self, state: RunState | None, event: Event) -> tuple[RunState, Verdict]:
        if state is None:
            begun = begin(event, self._rules)
            if begun is not None:
                return begun, APPLIED
        elif follow(state, event, self._rules):
            return state, APPLIED
        return fold(state, event, self._rules)

    def _reject(self, record: Record, rejection: Rejection, state: RunState | None, changes: Changes) -> None:
        self._letter(record, rejection, changes)
        if state is not None and rejection.sequence is not None:
            before = state.booked
            number_seen(state, rejection.source, rejection.sequence)
            rebook(state)
            self._touched[state.run_id.encode()] = None
            if state.booked is not before:
                self._book(record, state, before, changes)

    def _letter(self, record: Record, rejection: Rejection, changes: Changes) -> None:
        changes.letters.append(
            Letter(
                partition=self.partition,
                offset=record.offset,
                timestamp=record.timestamp,
                reason=rejection.reason,
                detail=rejection.detail,
                run_id=run_of_key(record.key),
                key=record.key,
                value=record.value,
                headers=record.headers,
            )
        )

    def _book(self, record: Record, state: RunState, before: Booking | None, changes: Changes) -> None:
        if before is None:
            state.final_offset, state.final_timestamp = record.offset, record.timestamp
        moved = differences(before, state.booked)
        for bucket, sums in moved:
            booked = changes.usage.get(bucket)
            if booked is None:
                changes.usage[bucket] = list(sums)
            else:
                for place, number in enumerate(sums):
                    booked[place] += number
        if before is None:
            return
        for bucket, sums in moved:
            changes.journal.append(
                JournalEntry(
                    partition=self.partition,
                    offset=record.offset,
                    run_id=state.run_id,
                    timestamp=record.timestamp,
                    bucket=bucket,
                    sums=sums,
                )
            )


def row_of(partition: int, handle: int, state: RunState) -> RunChange:
    """A run's row, as stores write it."""
    booked = state.booked
    return RunChange(
        partition,
        state.run_id,
        handle,
        state.thread_id,
        state.status,
        state.first_at // 1000,
        state.flags,
        state.dimensions,
        None if booked is None else booked.bucket.minute,
        state.final_timestamp,
        encode_state(state),
    )
