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
from runfold.fold.fast import begin, follow
from runfold.fold.outcome import APPLIED, REJECTED, SET_ASIDE, Rejection, Verdict
from runfold.fold.record import Record, hash_of_record
from runfold.fold.rules import DEFAULT_RULES, Rules
from runfold.fold.run import fold
from runfold.fold.state import RunState, decode_state, encode_state, number_seen
from runfold.fold.usage import Booking, add, differences
from runfold_schemas.codec import decode_lean
from runfold_schemas.events import Event

Watch = Callable[[Record, Event | None, RunState | None, Verdict], None]
"""Told of every record after it was folded, run by run: the record, its event, its run and the verdict."""

_key_of = attrgetter("key")


class PartitionFold:
    """The runs of one partition that are in hand, and the records folded into them.

    In hand are rows' bodies: the objects of open runs lie all over the memory, and reaching them costs more than decoding.

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
        self._bodies: dict[bytes | None, bytes] = {}
        self._handles: dict[bytes | None, int] = {}
        self._touched: set[bytes | None] = set()
        self._begun: list[str] = []
        self._ended: list[bytes | None] = []

    def absent(self, records: Iterable[Record]) -> list[str]:
        """The runs of these records that are not in hand."""
        named = map(run_of_key, set(map(_key_of, records)) - self._bodies.keys())
        return [run_id for run_id in named if run_id is not None]

    def take_in(self, rows: Iterable[tuple[str, int, bytes]]) -> None:
        """Take runs that the store has in hand: (run_id, handle, body)."""
        for run_id, handle, body in rows:
            key = run_id.encode()
            self._bodies[key] = body
            self._handles[key] = handle

    def fold(self, records: Sequence[Record], *, next_position: int, expected: int, changes: Changes) -> None:
        """Fold records, adding to ``changes`` what the store has to write; each run's own records in their order.

        ``expected`` is the position that the store has now, ``next_position`` the one after these records.
        """
        batch = Changes(usage=changes.usage)
        tally = batch.tally[self.partition] = changes.tally[self.partition] = {}
        quick = self._may_be_quick(records)
        partition, bodies, handles = self.partition, self._bodies, self._handles
        for key, of_run in _by_run(records).items():
            body = bodies.get(key)
            found = None if body is None else decode_state(body)
            state = self._fold_run(found, of_run, batch, tally, quick=quick)
            if state is None:
                continue
            row = row_of(partition, handles.get(key, 0), state)
            if row.body == body:
                continue  # nothing but dead letters came
            changes.runs.append(row)
            bodies[key] = row.body
            self._touched.add(key)
            if state.ended_at is not None:
                self._ended.append(key)
            elif body is None:
                self._begun.append(state.run_id)
        changes.letters += sorted(batch.letters, key=lambda letter: letter.offset)
        changes.journal += sorted(batch.journal, key=lambda entry: entry.offset)
        if records:
            last = records[-1]
            move = PositionChange(expected, next_position, last.offset, hash_of_record(last))
            changes.positions[self.partition] = move

    def settle(self, handles: Mapping[tuple[int, str], int]) -> None:
        """The changes are committed: learn the new rows' handles, let go of runs that ended and of too many others."""
        bodies, known = self._bodies, self._handles
        for run_id in self._begun:
            known[run_id.encode()] = handles[self.partition, run_id]
        for key in self._ended:
            bodies.pop(key, None)
            known.pop(key, None)
        if len(bodies) > self._most_runs:
            for key in bodies.keys() - self._touched:
                del bodies[key], known[key]
        self._touched, self._begun, self._ended = set(), [], []

    def _may_be_quick(self, records: Sequence[Record]) -> bool:
        """Tell whether short cuts may be taken: nobody watches, and every record is to be read, and as usual."""
        if self._watch is not None or self._decode is not decode_lean:
            return False
        first, last = (records[0].offset, records[-1].offset) if records else (0, 0)
        return not any(first <= offset <= last for offset in self._set_aside)

    def _fold_run(
        self, state: RunState | None, records: Sequence[Record], batch: Changes, tally: dict[str, int], *, quick: bool
    ) -> RunState | None:
        """Fold the records of one key, as many as can be by short cuts; None where they tell of no run."""
        place, rules = 0, self._rules
        while place < len(records):
            first = place
            if quick and state is None:
                state = begin(records[place], rules)
                if state is not None:
                    state.first_offset = records[place].offset
                    place += 1
            if quick and state is not None:
                place = follow(state, records, place, rules)
            if place > first:
                assert state is not None
                tally[APPLIED] = tally.get(APPLIED, 0) + place - first
                self._followed(state, records[place - 1], batch)
            if place < len(records):
                state = self._fold_one(state, records[place], batch, tally)
                place += 1
        return state

    def _followed(self, state: RunState, record: Record, batch: Changes) -> None:
        """What is left to do after short cuts that went up to ``record``: they never go past an end."""
        state.last_offset = record.offset
        if state.ended_at is not None:
            self._book(record, state, None, batch)

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
        moved = differences(before, state.booked)
        if moved and before is None:
            state.final_offset, state.final_timestamp = record.offset, record.timestamp
        for bucket, sums in moved:
            add(batch.usage, bucket, sums)
            if before is not None:
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


def _by_run(records: Iterable[Record]) -> dict[bytes | None, list[Record]]:
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
