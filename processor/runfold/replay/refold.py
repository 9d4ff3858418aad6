"""Refolding one run from its own range of the log, and retry, which writes what came of it through the store's door.

History and retry both run :func:`refold`, the one piece of code that does it; it runs the very fold that serves, so that
what comes of it is by construction what a rebuild gives. What may change here is how a plan is shown and carried out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

from msgspec import Struct

from runfold.fold.admit import Decode, admit
from runfold.fold.batch import PartitionFold, Watch
from runfold.fold.changes import Changes, Letter
from runfold.fold.outcome import SECOND_CREATED, SET_ASIDE, TOO_MANY_EVENTS, Rejection
from runfold.fold.projection import project
from runfold.fold.record import StoredRecord
from runfold.fold.rules import DEFAULT_RULES, Rules
from runfold.fold.state import RunState, decode_state
from runfold.fold.usage import Booking, BucketKey, differences
from runfold.log.port import LogSource
from runfold.replay.run_range import RefoldRefused, RunRange, bind, check_fold, find_ranges
from runfold.store.notes import SET_ASIDE as NOTE_SET_ASIDE
from runfold.store.notes import set_aside_of
from runfold.store.port import DoorChange, Note, StalePosition, Store, StoreIdentity
from runfold_schemas.codec import decode_lean
from runfold_schemas.events import Event

Place = tuple[int, int]
"""(partition, offset)."""

ATTEMPTS: Final = 10
_DECIDED: Final = {SECOND_CREATED, TOO_MANY_EVENTS, SET_ASIDE}
"""Reasons that were no matter of reading: code that reads more does not change them."""


class RetryPart(Struct, frozen=True, kw_only=True):
    """What a retry does to a run's part in one partition. ``before`` and ``after`` are the Run for people, None for none.

    ``usage`` is what is added to each bucket, in the order of :data:`runfold.fold.usage.SUMS`.
    """

    partition: int
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    letters_before: list[Letter]
    letters_after: list[Letter]
    usage: dict[BucketKey, tuple[int, ...]]
    change: DoorChange

    @property
    def changes_nothing(self) -> bool:
        """Whether the row and the letters stay as they are, to the byte."""
        rows = self.change.changes.runs
        same_row = (rows[0].body if rows else None) == self.change.before
        return same_row and _told(self.letters_before) == _told(self.letters_after)


class RetryPlan(Struct, frozen=True, kw_only=True):
    """What a retry would do to a run: one part for each partition that holds a part of it. ``owner`` is who would write.

    ``lifted`` are the notes that set records of it aside, and are taken back.
    """

    run_id: str
    parts: list[RetryPart]
    owner: StoreIdentity
    lifted: list[Note]

    @property
    def changes_nothing(self) -> bool:
        return all(part.changes_nothing for part in self.parts)


async def refold(
    source: LogSource,
    part: RunRange,
    *,
    rules: Rules,
    set_aside: dict[int, str] | None = None,
    decode: Decode = decode_lean,
    watch: Watch | None = None,
) -> Changes:
    """Fold a run's records of one partition from nothing: its row (none or one), letters, journal, and all of its usage.

    ``watch`` is told of every record. Raises RangeLost where retention has been quicker.
    """
    fold = PartitionFold(part.partition, rules=rules, decode=decode, set_aside=set_aside, watch=watch)
    changes = Changes()
    key = part.run_id.encode()
    async for records in source.read(part.partition, begin=part.begin, end=part.end, key=key):
        fold.fold(records, next_position=part.end, expected=part.begin, changes=changes)
        changes.runs = changes.runs[-1:]  # each list of records writes the row anew
    changes.positions, changes.tally = {}, {}  # these records were counted when they were folded first
    return changes


async def plan_retry(
    source: LogSource,
    store: Store,
    rules: Rules,
    *,
    run_id: str,
    lift: Collection[Place] = (),
    decode: Decode = decode_lean,
) -> RetryPlan:
    """What refolding the run with today's code would change; writes nothing.

    ``lift`` are places, (partition, offset), that were set aside and are to be folded after all: here and now, so that a
    record which still kills ends this process, and its note stands.

    Raises RefoldRefused where the run is unknown, its row damaged, or the log lacks a part of its range, and
    StoreRefused where the store is of another log or fold.
    """
    owner = await check_fold(source, store, rules)
    notes = await store.notes()
    lifted = [note for note in notes if note.kind == NOTE_SET_ASIDE and (note.partition, note.offset) in lift]
    set_aside = set_aside_of(note for note in notes if note not in lifted)
    ranges = await find_ranges(source, store, run_id)
    if not ranges:
        raise RefoldRefused(f"the store has neither a row nor a dead letter of run {run_id}")
    parts = []
    for part in ranges:
        changes = await refold(source, part, rules=rules, set_aside=set_aside.get(part.partition), decode=decode)
        parts.append(_planned(part, changes))
    return RetryPlan(run_id=run_id, parts=parts, owner=owner, lifted=lifted)


async def carry_out(store: Store, plan: RetryPlan) -> None:
    """Write a plan through the store's door, a partition at a time; the store is open for writing.

    Raises StalePosition where the run changed since it was planned (plan again), StoreRefused as :meth:`Store.bind` does.
    """
    await bind(store, plan.owner)
    for note in plan.lifted:
        await store.remove_note(note)
    for part in plan.parts:
        await store.write_through_door(part.change)


async def retry(
    source: LogSource,
    store: Store,
    rules: Rules,
    run_id: str,
    *,
    lift: Collection[Place] = (),
    decode: Decode = decode_lean,
) -> RetryPlan:
    """Plan and carry out, again while a living service is quicker; returns the plan that was carried out.

    Raises as :func:`plan_retry` does, and StalePosition when the run changed before each of :data:`ATTEMPTS` writes.
    """
    for attempt in range(1, ATTEMPTS + 1):
        plan = await plan_retry(source, store, rules, run_id=run_id, lift=lift, decode=decode)
        try:
            await carry_out(store, plan)
        except StalePosition:
            if attempt == ATTEMPTS:
                raise
        else:
            break
    return plan


def run_to_retry(letter: Letter) -> str:
    """The run whose refold retries this letter. Raises RefoldRefused for a letter whose key names none."""
    if letter.run_id is None:
        raise RefoldRefused(
            f"the dead letter at offset {letter.offset} of partition {letter.partition} belongs to no run, for its key names "
            "none: nothing can be folded again; publish its event anew under its run's key, or discard the letter"
        )
    return letter.run_id


def readable(letters: Iterable[Letter], *, rules: Rules = DEFAULT_RULES, decode: Decode = decode_lean) -> list[Letter]:
    """Those letters that today's code reads as events, and that would not be letters therefore."""
    return [letter for letter in letters if not isinstance(_judged(letter, rules, decode), Rejection)]


def outdated(letters: Iterable[Letter], *, rules: Rules = DEFAULT_RULES, decode: Decode = decode_lean) -> list[Letter]:
    """Those letters that today's code judges otherwise: the readable ones, and those it rejects in other words.

    A retry of their runs brings both up to date. Only the readable ones change more than what is said of the letter.
    """
    return [letter for letter in letters if not _same(letter, _judged(letter, rules, decode))]


def _same(letter: Letter, judged: Event | Rejection) -> bool:
    return isinstance(judged, Rejection) and (judged.reason, judged.detail) == (letter.reason, letter.detail)


def _judged(letter: Letter, rules: Rules, decode: Decode) -> Event | Rejection:
    """What admission makes of the letter's record today. What was no matter of reading stays as it was decided."""
    if letter.reason in _DECIDED:
        return Rejection(reason=letter.reason, detail=letter.detail)
    return admit(StoredRecord(letter.offset, letter.timestamp, letter.key, letter.value, letter.headers), rules, decode)


def _planned(part: RunRange, changes: Changes) -> RetryPart:
    """The plan from what the store has and what the refold gave: usage moves by new booking - old booking."""
    state = decode_state(changes.runs[0].body) if changes.runs else None
    moved = dict(differences(_booked(part.state), _booked(state)))
    changes.usage = {bucket: list(sums) for bucket, sums in moved.items()}
    return RetryPart(
        partition=part.partition,
        before=None if part.state is None else project(part.state),
        after=None if state is None else project(state),
        letters_before=part.letters,
        letters_after=changes.letters,
        usage=moved,
        change=DoorChange(
            partition=part.partition,
            run_id=part.run_id,
            before=None if part.row is None else part.row.body,
            before_letters=[letter.offset for letter in part.letters],
            changes=changes,
        ),
    )


def _booked(state: RunState | None) -> Booking | None:
    return None if state is None else state.booked


def _told(letters: list[Letter]) -> list[tuple[int, str, str]]:
    return [(letter.offset, letter.reason, letter.detail) for letter in letters]
