"""Short cuts for what nearly every event is: the next one, of a run's only source, that the table lets pass.

:func:`begin` and :func:`follow` do what :func:`runfold.fold.run.fold` does, or decline before anything has been changed.
They decide nothing of their own, and repeat it for speed alone: a property test folds everything both ways and compares
the bytes.
"""

from __future__ import annotations

from struct import Struct as Packing

from xxhash import xxh3_64_digest, xxh32_digest

from runfold.fold.content import CONTENT_OF, MARK
from runfold.fold.rules import Rules
from runfold.fold.run import STATUS_OF
from runfold.fold.state import RunState, Source, hash_of_source
from runfold.fold.table import END, ENTER, FIRST_END, IN_PROGRESS, QUEUED, REQUIRES_ACTION, TABLE
from runfold.fold.timeline import SIZE, pack
from runfold.fold.usage import Dimensions, book, named_in
from runfold_schemas.events import Event
from runfold_schemas.lean import LeanRunCreated, bytes_of_created

_LAST_SEQUENCE = Packing("<Q")
_last_sequence = _LAST_SEQUENCE.unpack_from
_SEQUENCE_FROM_END = SIZE - 3
"""Where in a packed fact its sequence stands, counted from the end of the timeline."""


def begin(event: Event, rules: Rules) -> RunState | None:
    """The state of a new run after a ``created`` that is its source's first event; None for any other."""
    if type(event) is not LeanRunCreated or event.sequence != 1 or event.source is None:
        return None
    at, metadata = event.occurred_at, event.metadata
    state = RunState(event.run_id, event.thread_id, at, at, bytes_of_created(event))
    state.dimensions = Dimensions(event.model, event.assistant_id, *named_in(metadata, rules))
    state.marks = xxh3_64_digest(event.id.encode()) + xxh32_digest(CONTENT_OF[LeanRunCreated](event))
    state.sources.append(Source(hash_of_source(event.source), 1))
    return state


def follow(state: RunState, event: Event, rules: Rules) -> bool:
    """Apply the next status of an open run with one source and no flags; False where anything is out of the ordinary."""
    kind = type(event)
    status = STATUS_OF.get(kind)
    sequence, sources, name = event.sequence, state.sources, event.source
    if status is None or state.flags or sequence is None or name is None or len(sources) != 1 or event.approximate:
        return False
    source, marks, timeline = sources[0], state.marks, state.timeline
    if sequence != source.last + 1 or hash_of_source(name) != source.name or event.thread_id != state.thread_id:
        return False
    if len(marks) >= MARK * rules.alarm_events or TABLE[state.status][status] != ENTER:
        return False
    if timeline and not _last_sequence(timeline, len(timeline) - _SEQUENCE_FROM_END)[0]:
        return False  # the last fact has no number to be compared with
    identity = xxh3_64_digest(event.id.encode())
    if identity in marks:
        return False
    source.last = sequence
    state.marks = marks + identity + xxh32_digest(CONTENT_OF[kind](event))
    at = event.occurred_at
    spent = at - state.since
    if spent > 0:
        if state.status == QUEUED:
            state.queue_ms += spent
        elif state.status == IN_PROGRESS:
            state.run_ms += spent
    state.since, state.status = at, status
    if status >= FIRST_END:
        state.timeline = timeline + pack(0, status | END, sequence, at)
        _end(state, event, at)
        return True
    state.timeline = timeline + pack(0, status, sequence, at)
    if status == IN_PROGRESS:
        state.started_at = at
    state.required_action = event.required_action if status == REQUIRES_ACTION else None  # type: ignore[attr-defined]
    return True


def _end(state: RunState, event: Event, at: int) -> None:
    state.required_action = None
    state.ended_at = at
    if state.usage is None:
        state.usage = event.usage  # type: ignore[attr-defined]
    state.last_error = event.last_error  # type: ignore[attr-defined]
    state.incomplete_details = event.incomplete_details  # type: ignore[attr-defined]
    state.told_at_end = state.metadata is not None
    state.booked = book(state)
