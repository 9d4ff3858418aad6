"""The fold: a run's state and an event in, the new state and a named outcome out.

Total over every decodable event, and it never raises: no input or output, no clock, no randomness, no logging. The checks
stand in this order: duplicate or conflict, rejected, number, order within the source, table. What decides is the log
alone. ``fold`` owns the state it is given, and changes it in place.
"""

from __future__ import annotations

from collections.abc import Callable

from runfold.fold.content import MARK, differing_fields, find_mark, mark_of
from runfold.fold.outcome import (
    APPLIED,
    CONFLICT,
    DUPLICATE,
    LATE,
    SECOND_CREATED,
    STALE,
    TOO_MANY_EVENTS,
    UNCHANGED,
    Flag,
    Outcome,
    Rejection,
    Verdict,
)
from runfold.fold.rules import DEFAULT_RULES, Rules
from runfold.fold.state import NAMELESS, RunState, number_folded, number_seen
from runfold.fold.table import (
    APPROXIMATE,
    END,
    ENTER,
    FIRST_END,
    IN_PROGRESS,
    OUTCOMES,
    REPLACE,
    REQUIRES_ACTION,
    RESTART,
    TABLE,
    Entry,
    walk,
)
from runfold.fold.usage import book
from runfold_schemas.events import (
    Event,
    RunCancelled,
    RunCancelling,
    RunCompleted,
    RunCreated,
    RunEnded,
    RunExpired,
    RunFailed,
    RunIncomplete,
    RunInProgress,
    RunModified,
    RunQueued,
    RunRequiresAction,
    RunUsageCorrected,
)
from runfold_schemas.run import RunStatus

INCOMPLETE, SECOND_END, THREAD, CONFLICTED, CROWDED = (
    int(flag) for flag in (Flag.INCOMPLETE, Flag.SECOND_END, Flag.THREAD, Flag.CONFLICT, Flag.CROWDED)
)

STATUS_OF: dict[type[Event], int] = {
    RunQueued: int(RunStatus.QUEUED),
    RunInProgress: int(RunStatus.IN_PROGRESS),
    RunRequiresAction: int(RunStatus.REQUIRES_ACTION),
    RunCancelling: int(RunStatus.CANCELLING),
    RunCancelled: int(RunStatus.CANCELLED),
    RunFailed: int(RunStatus.FAILED),
    RunCompleted: int(RunStatus.COMPLETED),
    RunIncomplete: int(RunStatus.INCOMPLETE),
    RunExpired: int(RunStatus.EXPIRED),
}


def fold(state: RunState | None, event: Event, rules: Rules = DEFAULT_RULES) -> tuple[RunState, Verdict]:
    """Fold one event into a run; ``None`` is a run that no event has told of yet.

    A :class:`Rejection` is the verdict on an event that contradicts the run's ``created``, or is one too many; it leaves
    the run as it was but for the event's number, which is marked as seen.
    """
    if state is None:
        state = RunState(event.run_id, event.thread_id, event.occurred_at, flags=INCOMPLETE)
    identity, content = mark_of(event)
    known = find_mark(state.marks, identity)
    verdict: Verdict
    if known >= 0:
        number_seen(state, event.source, event.sequence)
        verdict = _again(state, content, known)
    elif (rejection := _reject(state, event, rules)) is not None:
        number_seen(state, event.source, event.sequence)
        verdict = rejection
    else:
        state.marks += identity + content
        verdict = _take(state, event)
    rebook(state, rules)
    return state, verdict


def rebook(state: RunState, rules: Rules) -> None:
    """Book what a run that has ended adds to usage; ``state.booked`` stays the same object where nothing moved."""
    if state.ended_at is not None:
        booking = book(state, rules)
        if booking != state.booked:
            state.booked = booking


def _take(state: RunState, event: Event) -> Outcome:
    """Fold an event that is new to the run."""
    source = number_folded(state, event.source, event.sequence)
    if event.thread_id != state.thread_id:
        state.flags |= THREAD
    if state.flags & INCOMPLETE and event.occurred_at < state.first_at:
        state.first_at = event.occurred_at
    return _EFFECTS[type(event)](state, event, source)


def _again(state: RunState, content: bytes, known: int) -> Outcome:
    if state.marks[known + 8 : known + MARK] == content:
        return DUPLICATE
    state.flags |= CONFLICTED
    return CONFLICT


def _reject(state: RunState, event: Event, rules: Rules) -> Rejection | None:
    if type(event) is RunCreated and state.created is not None:
        differing = differing_fields(state.created, event)
        if differing:
            detail = f"the run was created before, with another {', '.join(differing)}"
            return Rejection(reason=SECOND_CREATED, detail=detail)
    count = len(state.marks) // MARK
    if count >= rules.alarm_events:
        return _reject_crowd(state, event, count, rules)
    return None


def _reject_crowd(state: RunState, event: Event, count: int, rules: Rules) -> Rejection | None:
    """Endings always count, and so do corrections up to a bound of their own: bills depend on them."""
    state.flags |= CROWDED
    excepted = (isinstance(event, RunEnded) and state.ended_at is None) or (
        type(event) is RunUsageCorrected and count < rules.most_events + rules.most_corrections
    )
    if count < rules.most_events or excepted:
        return None
    detail = f"the run has {count} events, and no run may have more than {rules.most_events}"
    return Rejection(reason=TOO_MANY_EVENTS, detail=detail)


def _created(state: RunState, event: RunCreated, _source: int) -> Outcome:
    """``created`` stands before the whole timeline, whenever it comes; metadata that a modified told earlier stays."""
    if state.created is not None:
        return UNCHANGED
    state.created = event
    state.first_at = event.occurred_at
    state.thread_id = event.thread_id
    state.flags &= ~INCOMPLETE
    return APPLIED


def _modified(state: RunState, event: RunModified, source: int) -> Outcome:
    order = (event.sequence or 0, event.occurred_at)
    if source != NAMELESS:
        publisher = state.sources[source]
        if publisher.modified is not None and _older(order, publisher.modified):
            return STALE
        publisher.modified = order
    told = state.metadata
    if told is None and state.created is not None:
        told = state.created.metadata
    state.metadata = event.metadata
    return UNCHANGED if told == event.metadata else APPLIED


def _usage_corrected(state: RunState, event: RunUsageCorrected, source: int) -> Outcome:
    order = (event.sequence or 0, event.occurred_at)
    if source != NAMELESS:
        publisher = state.sources[source]
        if publisher.corrected is not None and _older(order, publisher.corrected):
            return STALE
        publisher.corrected = order
    same = state.usage == event.usage
    state.usage, state.usage_corrected = event.usage, True
    return UNCHANGED if same else APPLIED


def _status_told(state: RunState, event: Event, source: int) -> Outcome:
    """A status that is not an end: at the end of the timeline, unless its source has already told newer ones."""
    status = STATUS_OF[type(event)]
    at = event.occurred_at
    sequence = 0 if source == NAMELESS else event.sequence or 0
    entry = (source, sequence, at, status | APPROXIMATE if event.approximate else status)
    timeline = state.timeline
    place = _place(timeline, entry)
    if place < len(timeline):
        return _insert(state, place, entry)
    timeline.append(entry)
    move = TABLE[state.status][status]
    if move == ENTER:
        state.status = status
        if status == IN_PROGRESS:
            state.started_at = at
        state.required_action = event.required_action if type(event) is RunRequiresAction else None
        return APPLIED
    if move == RESTART and state.started_at is not None and at > state.started_at:
        state.started_at = at
        return APPLIED
    if move == REPLACE and type(event) is RunRequiresAction and event.required_action != state.required_action:
        state.required_action = event.required_action
        return APPLIED
    return OUTCOMES[move]


def _ended(state: RunState, event: RunEnded, source: int) -> Outcome:
    """The first terminal event in the log is the end, wherever it stands; a later one can only fill an unknown usage."""
    status = STATUS_OF[type(event)]
    first = state.ended_at is None
    code = status | (END if first else 0) | (APPROXIMATE if event.approximate else 0)
    sequence = 0 if source == NAMELESS else event.sequence or 0
    entry = (source, sequence, event.occurred_at, code)
    place = _place(state.timeline, entry)
    at_end = place == len(state.timeline)
    state.timeline.insert(place, entry)
    if state.usage is None:
        state.usage = event.usage
    if not first:
        if status != state.status:
            state.flags |= SECOND_END
        return LATE
    state.ended_at = event.occurred_at
    state.last_error, state.incomplete_details = event.last_error, event.incomplete_details
    state.told_at_end = state.created is not None or state.metadata is not None
    state.required_action = None
    if at_end:
        state.status = status
    else:
        _rewalk(state, place)
    return APPLIED


def _older(order: tuple[int, int], than: tuple[int, int]) -> bool:
    """By number where both have one, else by time."""
    return order[0] < than[0] if order[0] and than[0] else order[1] < than[1]


def _place(timeline: list[Entry], entry: Entry) -> int:
    """Where an entry belongs: at the end, or directly before the first newer fact of its own source."""
    source = entry[0]
    if source == NAMELESS:
        return len(timeline)
    order = (entry[1], entry[2])
    for other in reversed(timeline):
        if other[0] == source:
            if not _older(order, (other[1], other[2])):
                return len(timeline)
            break
    else:
        return len(timeline)
    return next(
        index for index, other in enumerate(timeline) if other[0] == source and _older(order, (other[1], other[2]))
    )


def _insert(state: RunState, place: int, entry: Entry) -> Outcome:
    """Put a late fact where it belongs, and let the table run over the timeline again."""
    state.timeline.insert(place, entry)
    return _rewalk(state, place)


def _rewalk(state: RunState, watch: int) -> Outcome:
    walked = walk(state.timeline, created_at=state.first_at, watch=watch)
    state.status, state.started_at = walked.status, walked.started_at
    if walked.status != REQUIRES_ACTION:
        state.required_action = None
    return walked.watched


_EFFECTS: dict[type[Event], Callable[..., Outcome]] = {
    RunCreated: _created,
    RunModified: _modified,
    RunUsageCorrected: _usage_corrected,
    **{kind: _ended if status >= FIRST_END else _status_told for kind, status in STATUS_OF.items()},
}
