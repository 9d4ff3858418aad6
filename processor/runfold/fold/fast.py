"""Short cuts for what nearly every record is: a run's first ``created``, or the next status of a run with one source.

:func:`begin` and :func:`follow` do what admitting a record and folding its event does, or decline before anything has been
changed. They decide nothing of their own, and repeat it for speed alone: they take all records of a run that a batch holds
in one go, its state in local variables. A property test folds everything both ways and compares the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct as Packing
from typing import Any

from runfold.fold.admit import DAY, EARLIEST
from runfold.fold.content import CODE_OF, MARK, ended_content, hash_of_content, hash_of_id
from runfold.fold.record import Record
from runfold.fold.rules import Rules
from runfold.fold.run import STATUS_OF, end, enter
from runfold.fold.state import RunState, Source, hash_of_source, known_sources
from runfold.fold.table import END, ENTER, FIRST_END, REQUIRES_ACTION, TABLE
from runfold.fold.timeline import SIZE, pack
from runfold.fold.usage import dimensions_of
from runfold_schemas.codec import UNREADABLE, decode_lean, read_lean
from runfold_schemas.events import Event
from runfold_schemas.json_value import are_json
from runfold_schemas.lean import LeanRunCreated, joined, said_beside, said_by
from runfold_schemas.required_action import canonical_action

_STEPS = {
    kind: (status, status | END if status >= FIRST_END else status, CODE_OF[kind] << 1)
    for kind, status in STATUS_OF.items()
}
_NO_STEP = (0, 0, 0)
_NOTHING_FREE = (None, None)
_ENTERS = tuple(tuple(move == ENTER for move in row) for row in TABLE)

_last_sequence = Packing("<Q").unpack_from
_SEQUENCE_FROM_END = SIZE - 3
"""Where in a packed fact its sequence stands, counted from the end of the timeline."""


def hurry(state: RunState | None, records: Sequence[Record], rules: Rules) -> tuple[RunState | None, int]:
    """Fold a run's records, from the first on, up to one that is out of the ordinary: the state, and how many they were."""
    place = 0
    if state is None:
        state = begin(records[0], rules)
        if state is None:
            return None, 0
        state.first_offset, place = records[0].offset, 1
    place = follow(state, records, place, rules)
    if place:
        state.last_offset = records[place - 1].offset
    return state, place


def begin(record: Record, rules: Rules) -> RunState | None:
    """The state of a new run after a ``created`` that is its source's first event; None for any other record."""
    event = _read(record)
    if type(event) is not LeanRunCreated or event.sequence != 1 or event.source is None:
        return None
    at = event.occurred_at
    usual = event.id and event.run_id.encode() == record.key and EARLIEST <= at <= record.timestamp + DAY
    if not usual or len(record.value) > rules.largest_value:  # type: ignore[arg-type]
        return None
    try:
        said, beside = said_by(event), said_beside(event)
    except UNREADABLE:
        return None
    return RunState(
        event.run_id,
        event.thread_id,
        at,
        at,
        joined(said, beside),
        dimensions=dimensions_of(event, rules),
        marks=hash_of_id(event.id.encode()) + hash_of_content(said),
        sources=[Source(hash_of_source(event.source), 1)],
    )


def follow(state: RunState, records: Sequence[Record], place: int, rules: Rules) -> int:
    """Fold records from ``place`` on while each is the next status that the run may enter; returns where it stopped."""
    sources, timeline = state.sources, state.timeline
    if state.flags or state.ended_at is not None or len(sources) != 1 or not _numbered(timeline):
        return place
    source, marks, thread = sources[0], state.marks, state.thread_id.encode()
    for record in records[place:] if place else records:
        event = _read(record)
        status, code, seed = _STEPS.get(type(event), _NO_STEP)
        if not (
            seed
            and _ENTERS[state.status][status]
            and event.sequence == source.last + 1
            and event.run_id == state.run_id
            and event.thread_id == state.thread_id
            and known_sources.get(event.source) == source.name
            and EARLIEST <= (at := event.occurred_at) <= record.timestamp + DAY
            and len(record.value) <= rules.largest_value  # type: ignore[arg-type]
            and len(marks) < MARK * (rules.alarm_events - 1)
            and event.id
            and not event.approximate
        ):
            break
        identity = hash_of_id(event.id.encode())
        told = thread if status < REQUIRES_ACTION else _told(event, status, thread)
        if told is None or identity in marks:
            break
        source.last += 1
        marks += identity + hash_of_content(told, (at << 5 | seed) & 0xFFFFFFFF)
        timeline += pack(0, code, source.last, at)
        enter(state, status, event)
        state.required_action = told[len(thread) :] if status == REQUIRES_ACTION else None
        place += 1
        if status >= FIRST_END:
            end(state, event)
            break
    state.marks, state.timeline = marks, timeline
    return place


def _read(record: Record) -> Any:
    try:
        return read_lean(record.value)  # type: ignore[arg-type]  # a null value is among what it raises for
    except UNREADABLE:
        return decode_lean(record.value)


def _told(event: Event, status: int, thread: bytes) -> bytes | None:
    """The content of an event with free-form values; None where these are not in order."""
    try:
        if status == REQUIRES_ACTION:
            return thread + canonical_action(event.required_action)  # type: ignore[attr-defined]
        if status < FIRST_END:
            return thread
        free = event.last_error, event.incomplete_details  # type: ignore[attr-defined]
        return ended_content(event) if free == _NOTHING_FREE or are_json(free) else None  # type: ignore[arg-type]
    except UNREADABLE:
        return None


def _numbered(timeline: bytes) -> bool:
    """Tell whether a timeline's last fact has a number to be compared with; an empty one needs none."""
    return not timeline or _last_sequence(timeline, len(timeline) - _SEQUENCE_FROM_END)[0] > 0
