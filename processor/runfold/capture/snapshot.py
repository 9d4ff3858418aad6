"""One Run body, polled or streamed, to the facts it proves: events, each with its own time.

A body shows a state; what led to it is read off its times. Nothing is numbered and every id is derived from content, so
capturing a body twice, or the same run from two places, changes nothing. A time that the body does not have is not made
up: the event carries the body's latest time and is marked ``approximate``. The status decides, never the name under which
the body was sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from msgspec import msgpack, structs
from xxhash import xxh3_128_hexdigest

from runfold.capture.body import Body
from runfold_schemas import (
    Event,
    Malformed,
    Run,
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
    decode,
    encode,
)

SOURCE = "capture"
KNOWN = frozenset(Run.__struct_fields__)

_WAITING: dict[str, type[Event]] = {"queued": RunQueued, "in_progress": RunInProgress, "cancelling": RunCancelling}
_ENDS: dict[str, tuple[type[RunEnded], str | None]] = {
    "cancelled": (RunCancelled, "cancelled_at"),
    "failed": (RunFailed, "failed_at"),
    "completed": (RunCompleted, "completed_at"),
    "incomplete": (RunIncomplete, "completed_at"),
    "expired": (RunExpired, None),
}
_TIMES = ("created_at", "started_at", "cancelled_at", "failed_at", "completed_at")
_END_TIMES = {"cancelled_at", "failed_at", "completed_at"}
_OPEN = {"queued", "in_progress", "requires_action", "cancelling"}
_canonical = msgpack.Encoder(order="deterministic").encode


class Snapshot(NamedTuple):
    """What a body proves, in the order of the Run's life, and what of it could not be understood."""

    events: list[Event]
    complaints: list[str]


def snapshot(fields: Mapping[str, Any]) -> Snapshot:
    """The events that one Run body proves; none where it lacks its id, its thread or any time."""
    body = Body(fields)
    run_id, thread_id = body.name("id"), body.name("thread_id")
    times = {name: time for name in _TIMES if (time := body.time(name)) is not None}
    if not times:
        body.complaints.append("there is no time in it: nothing of it is captured")
    if run_id is None or thread_id is None or not times:
        return Snapshot([], body.complaints)
    told = _Told(body, {"run_id": run_id, "thread_id": thread_id, "source": SOURCE}, times)
    return Snapshot([event for event in told.events() if _valid(event, body)], body.complaints)


class _Told:
    """One body's events; ``latest`` and ``earliest`` are its greatest and least time, in Unix milliseconds."""

    def __init__(self, body: Body, envelope: dict[str, Any], times: dict[str, int]) -> None:
        self.body, self.envelope, self.times = body, envelope, times
        self.earliest, self.latest = min(times.values()), max(times.values())
        self.metadata = body.object("metadata")

    def events(self) -> Iterator[Event]:
        yield self.created()
        started_at = self.times.get("started_at")
        if started_at is not None:
            yield _identified(RunInProgress(**self.envelope, occurred_at=started_at))
        if self.metadata is not None:
            yield self.at_latest(RunModified, metadata=self.metadata)
        status = self.body.fields.get("status")
        self.complain_of_contradictions(status)
        if status != "in_progress" or started_at is None:
            yield from self.status(status)

    def complain_of_contradictions(self, status: Any) -> None:
        """Say what cannot be true together; the body is captured all the same, as it stands."""
        if isinstance(status, str) and status in _OPEN:
            for field in sorted(_END_TIMES & self.times.keys()):
                self.body.complaints.append(f"{field} is set, and the status is {status!r:.60}")
        created_at, started_at = self.times.get("created_at"), self.times.get("started_at")
        if created_at is not None and started_at is not None and started_at < created_at:
            self.body.complaints.append("started_at is before created_at")

    def created(self) -> RunCreated:
        """Its id leaves out what it says: bodies of one run agree on that, or the fold reports that they do not."""
        at = self.times.get("created_at")
        expires_at = self.body.time("expires_at")
        return RunCreated(
            **self.envelope,
            id=xxh3_128_hexdigest(_canonical((self.envelope["run_id"], "created"))),
            occurred_at=self.earliest if at is None else at,
            approximate=at is None,
            metadata=self.metadata or {},
            expires_at=None if expires_at is None else expires_at // 1000,
            extra=self.body.beyond(KNOWN),
            **self.body.settings(),
        )

    def status(self, status: Any) -> Iterator[Event]:
        """The state itself. Its time is exact where the body has a field for it, and else the latest one in the body."""
        if not isinstance(status, str):
            self.body.complaints.append("status is missing" if status is None else f"status is no text: {status!r:.60}")
        elif status in _ENDS:
            yield self.end(*_ENDS[status])
        elif status == "requires_action":
            action = self.body.object("required_action")
            if action is None:
                self.body.complaints.append("required_action is missing: what the run waits for is not known")
            yield self.at_latest(RunRequiresAction, required_action=action or {})
        elif status == "queued" and self.latest == self.times.get("created_at") and "started_at" not in self.times:
            yield _identified(RunQueued(**self.envelope, occurred_at=self.latest))
        elif status in _WAITING:
            yield self.at_latest(_WAITING[status])
        else:
            self.body.complaints.append(f"status is none that is known: {status!r:.60}")

    def end(self, kind: type[RunEnded], field: str | None) -> Event:
        at = None if field is None else self.times.get(field)
        ended = kind(
            **self.envelope,
            occurred_at=self.latest if at is None else at,
            approximate=at is None,
            usage=self.body.usage(),
            last_error=self.body.object("last_error"),
            incomplete_details=self.body.object("incomplete_details"),
        )
        return _identified(ended)

    def at_latest(self, kind: type[Event], **told: Any) -> Event:
        return _identified(kind(**self.envelope, occurred_at=self.latest, approximate=True, **told))


def _identified(event: Event) -> Event:
    """The event with an id made of everything else it says but its thread."""
    told = {name: value for name, value in structs.asdict(event).items() if name not in {"id", "thread_id", "source"}}
    identity = xxh3_128_hexdigest(_canonical((type(event).__name__, told)))
    return structs.replace(event, id=identity)


def _valid(event: Event, body: Body) -> bool:
    """Whether the log would take the event: what it refuses is complained about here, where the file is at hand."""
    answer = decode(encode(event))
    if isinstance(answer, Malformed):
        body.complaints.append(f"{type(event).__struct_config__.tag} is left out: {answer.detail}")
    return isinstance(answer, Event)
