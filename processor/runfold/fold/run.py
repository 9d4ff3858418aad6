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
from runfold.fold.state import RunState, number_folded, number_seen
from runfold.fold.table import (
    APPROXIMATE,
    END,
    ENTER,
    FIRST_END,
    IN_PROGRESS,
    OUTCOMES,
    QUEUED,
    REPLACE,
    REQUIRES_ACTION,
    RESTART,
    TABLE,
    walk,
)
from runfold.fold.timeline import NAMELESS, SIZE, entries, older, pack, place_of
from runfold.fold.usage import Dimensions, named_in
from runfold_schemas.events import (
    Event,
    RunCancelled,
    RunCancelling,
    RunCompleted,
    RunEnded,
    RunExpired,
    RunFailed,
    RunIncomplete,
    RunInProgress,
    RunModified,
    RunQueued,
    RunUsageCorrected,
)
from runfold_schemas.lean import LeanRunCreated, LeanRunRequiresAction, bytes_of_created, created_of_bytes, lean_of
from runfold_schemas.required_action import canonical_action
from runfold_schemas.run import RunStatus

INCOMPLETE, SECOND_END, THREAD, CONFLICTED, CROWDED = (
    int(flag) for flag in (Flag.INCOMPLETE, Flag.SECOND_END, Flag.THREAD, Flag.CONFLICT, Flag.CROWDED)
)

STATUS_OF: dict[type[Event], int] = {
    RunQueued: int(RunStatus.QUEUED),
    RunInProgress: int(RunStatus.IN_PROGRESS),
    LeanRunRequiresAction: int(RunStatus.REQUIRES_ACTION),
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
    if type(event) not in STATUS_OF:
        event = lean_of(event)
    if state is None:
        at = event.occurred_at
        state = RunState(event.run_id, event.thread_id, at, at, flags=INCOMPLETE)
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
        verdict = _take(state, event, rules)
    return state, verdict


def _take(state: RunState, event: Event, rules: Rules) -> Outcome:
    """Fold an event that is new to the run."""
    source = number_folded(state, event.source, event.sequence)
    if event.thread_id != state.thread_id:
        state.flags |= THREAD
    if state.flags & INCOMPLETE and event.occurred_at < state.first_at:
        state.first_at = event.occurred_at
    return _EFFECTS[type(event)](state, event, source, rules)


def _again(state: RunState, content: bytes, known: int) -> Outcome:
    if state.marks[known + 8 : known + MARK] == content:
        return DUPLICATE
    state.flags |= CONFLICTED
    return CONFLICT


def _reject(state: RunState, event: Event, rules: Rules) -> Rejection | None:
    if type(event) is LeanRunCreated and state.created is not None:
        differing = differing_fields(state.created, bytes_of_created(event))
        if differing:
            detail = f"the run was created before, with another {', '.join(differing)}"
            return Rejection(reason=SECOND_CREATED, detail=detail)
    count = len(state.marks) // MARK
    if count + 1 >= rules.alarm_events:
        return _reject_crowd(state, event, count, rules)
    return None


def _reject_crowd(state: RunState, event: Event, count: int, rules: Rules) -> Rejection | None:
    """Endings always count, and so do corrections up to a bound of their own: bills depend on them."""
    state.flags |= CROWDED
    if count < rules.most_events or (isinstance(event, RunEnded) and state.ended_at is None):
        return None
    if type(event) is RunUsageCorrected and state.excess_corrections < rules.most_corrections:
        state.excess_corrections += 1
        return None
    detail = f"the run has {count} events, and no run may have more than {rules.most_events}"
    return Rejection(reason=TOO_MANY_EVENTS, detail=detail)


def _created(state: RunState, event: LeanRunCreated, _source: int, rules: Rules) -> Outcome:
    """``created`` stands before the whole timeline, whenever it comes; metadata that a modified told earlier stays.

    It alone moves the dimensions of a run that has ended: all but what a modified had told by then.
    """
    if state.created is not None:
        return UNCHANGED
    state.created = bytes_of_created(event)
    state.first_at = event.occurred_at
    state.thread_id = event.thread_id
    state.flags &= ~INCOMPLETE
    told = state.metadata is not None if state.ended_at is None else state.told_at_end
    named = state.dimensions[2:] if told else named_in(event.metadata, rules)
    state.dimensions = Dimensions(event.model, event.assistant_id, *named)
    if state.timeline:
        _rewalk(state, 0)
    else:
        state.since = event.occurred_at
    return APPLIED


def _modified(state: RunState, event: RunModified, source: int, rules: Rules) -> Outcome:
    order = (event.sequence or 0, event.occurred_at)
    if source != NAMELESS:
        publisher = state.sources[source]
        if publisher.modified is not None and older(order, publisher.modified):
            return STALE
        publisher.modified = order
    told = state.metadata
    if told is None and state.created is not None:
        told = created_of_bytes(state.created).metadata
    state.metadata = event.metadata
    if state.ended_at is None:
        model, assistant = state.dimensions[:2]
        state.dimensions = Dimensions(model, assistant, *named_in(event.metadata, rules))
    return UNCHANGED if told == event.metadata else APPLIED


def _usage_corrected(state: RunState, event: RunUsageCorrected, source: int, _rules: Rules) -> Outcome:
    order = (event.sequence or 0, event.occurred_at)
    if source != NAMELESS:
        publisher = state.sources[source]
        if publisher.corrected is not None and older(order, publisher.corrected):
            return STALE
        publisher.corrected = order
    same = state.usage == event.usage
    state.usage, state.usage_corrected = event.usage, True
    return UNCHANGED if same else APPLIED


def _status_told(state: RunState, event: Event, source: int, _rules: Rules) -> Outcome:
    """A status that is not an end: at the end of the timeline, unless its source has already told newer ones."""
    status = STATUS_OF[type(event)]
    at = event.occurred_at
    sequence = 0 if source == NAMELESS else event.sequence or 0
    fact = pack(source, status | APPROXIMATE if event.approximate else status, sequence, at)
    timeline = state.timeline
    place = place_of(timeline, source=source, order=(sequence, at))
    if place < len(timeline):
        state.timeline = timeline[:place] + fact + timeline[place:]
        return _rewalk(state, place // SIZE)
    state.timeline = timeline + fact
    action = canonical_action(event.required_action) if type(event) is LeanRunRequiresAction else None
    move = TABLE[state.status][status]
    if move == ENTER:
        enter(state, status, event)
        state.required_action = action
        return APPLIED
    if move == RESTART and state.started_at is not None and at > state.started_at:
        state.started_at = at
        return APPLIED
    if move == REPLACE and action != state.required_action:
        state.required_action = action
        return APPLIED
    return OUTCOMES[move]


def _ended(state: RunState, event: RunEnded, source: int, _rules: Rules) -> Outcome:
    """The first terminal event in the log is the end, wherever it stands; a later one can only fill an unknown usage."""
    status = STATUS_OF[type(event)]
    first = state.ended_at is None
    code = status | (END if first else 0) | (APPROXIMATE if event.approximate else 0)
    sequence = 0 if source == NAMELESS else event.sequence or 0
    timeline = state.timeline
    place = place_of(timeline, source=source, order=(sequence, event.occurred_at))
    state.timeline = timeline[:place] + pack(source, code, sequence, event.occurred_at) + timeline[place:]
    if not first:
        if state.usage is None:
            state.usage = event.usage
        if status != state.status or _contradicts(state, event):
            state.flags |= SECOND_END
        return LATE
    end(state, event)
    if place == len(timeline):
        enter(state, status, event)
        return APPLIED
    return _rewalk(state, place // SIZE)


def _contradicts(state: RunState, event: RunEnded) -> bool:
    """Tell whether a second end of the same status tells something else than the run shows; silence is no contradiction."""
    usage = None if state.usage_corrected else event.usage
    pairs = (
        (usage, state.usage),
        (event.last_error, state.last_error),
        (event.incomplete_details, state.incomplete_details),
    )
    return any(told is not None and told != shown for told, shown in pairs)


def end(state: RunState, event: RunEnded) -> None:
    """Take what the first end tells, its status apart."""
    if state.usage is None:
        state.usage = event.usage
    state.ended_at, state.required_action = event.occurred_at, None
    state.last_error, state.incomplete_details = event.last_error, event.incomplete_details
    state.told_at_end = state.metadata is not None


def enter(state: RunState, status: int, event: Event) -> None:
    """Change the status, and count the time spent in the one before. A walk over the timeline comes to the same."""
    spent = event.occurred_at - state.since
    if spent > 0:
        if state.status == QUEUED:
            state.queue_ms += spent
        elif state.status == IN_PROGRESS:
            state.run_ms += spent
    state.status, state.since = status, event.occurred_at
    if status == IN_PROGRESS:
        state.started_at = event.occurred_at
    if event.approximate:
        state.exact = False


def _rewalk(state: RunState, watch: int) -> Outcome:
    """Let the table run over the whole timeline again; the outcome is that of fact ``watch``."""
    walked = walk(entries(state.timeline), created_at=state.first_at, watch=watch)
    state.status, state.started_at, state.since = walked.status, walked.started_at, walked.since
    state.queue_ms, state.run_ms, state.exact = walked.queue_ms, walked.run_ms, walked.exact
    if walked.status != REQUIRES_ACTION:
        state.required_action = None
    return walked.watched


_EFFECTS: dict[type[Event], Callable[..., Outcome]] = {
    LeanRunCreated: _created,
    RunModified: _modified,
    RunUsageCorrected: _usage_corrected,
    **{kind: _ended if status >= FIRST_END else _status_told for kind, status in STATUS_OF.items()},
}
