"""A run told event by event, and a partition told record by record: what the tests of the fold are written in.

Times are seconds after ``START``, so that a test reads as a story. Events name no source unless the test gives one.
"""

from __future__ import annotations

from typing import Any

from runfold.fold.batch import PartitionFold
from runfold.fold.changes import Changes, RunChange
from runfold.fold.outcome import Flag, Rejection
from runfold.fold.projection import project
from runfold.fold.record import StoredRecord
from runfold.fold.rules import DEFAULT_RULES, Rules
from runfold.fold.run import fold
from runfold.fold.state import RunState, decode_state, hash_of_source
from runfold.fold.usage import SUMS
from runfold_schemas import Event, RunCreated, Usage, encode

START = 1_760_000_040
"""A full minute, in Unix seconds."""


def usage(prompt: int = 10, completion: int = 5) -> Usage:
    return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


def event(kind: type[Event], at: float = 0, **fields: Any) -> Event:
    """An event of run_1 at ``START + at`` seconds; its id says what it is unless ``id`` is given."""
    fields = {"run_id": "run_1", "thread_id": "thread_1", "id": f"{kind.__name__}@{at}", **fields}
    if kind is RunCreated:
        fields = {"assistant_id": "asst_1", "model": "gpt-4o", **fields}
    return kind(occurred_at=round((START + at) * 1000), **fields)


class Story:
    """One run: ``tell`` folds an event and returns the outcome, or the Rejection."""

    def __init__(self, rules: Rules = DEFAULT_RULES) -> None:
        self.rules = rules
        self.state: RunState | None = None

    def tell(self, kind: type[Event], at: float = 0, **fields: Any) -> Any:
        self.state, verdict = fold(self.state, event(kind, at, **fields), self.rules)
        return verdict

    def number(self, kind: type[Event], sequence: int, at: float | None = None, **fields: Any) -> Any:
        """Tell a numbered event of source "a"; without a time, each number is a second."""
        fields = {"source": "a", "id": f"{kind.__name__}#{sequence}", **fields}
        return self.tell(kind, sequence if at is None else at, sequence=sequence, **fields)

    @property
    def run(self) -> dict[str, Any]:
        assert self.state is not None
        return project(self.state)

    @property
    def flags(self) -> Flag:
        assert self.state is not None
        return Flag(self.state.flags)

    def missing(self, source: str = "a") -> list[tuple[int, int]]:
        assert self.state is not None
        hashed = hash_of_source(source)
        return [(first, last) for name, first, last in self.state.missing() if name == hashed]

    @property
    def sums(self) -> dict[str, int]:
        """What the run adds to usage, by name."""
        assert self.state is not None and self.state.booked is not None
        return dict(zip(SUMS, self.state.booked.sums, strict=True))


class Partition:
    """A partition and what a store would have of it. Every ``feed`` is a batch of its own, committed at once.

    ``as_read`` makes of a batch's records what a log gives them as.
    """

    def __init__(self, rules: Rules = DEFAULT_RULES, *, as_read: Any = list, **options: Any) -> None:
        self.fold = PartitionFold(0, rules=rules, **options)
        self.as_read = as_read
        self.rows: dict[str, RunChange] = {}
        self.handles: dict[str, int] = {}
        self.position = 0
        self.usage: dict[Any, list[int]] = {}

    def feed(self, *records: StoredRecord | Event | bytes | None, key: bytes | None = b"run_1") -> Changes:
        """Fold events, values or whole records; events are keyed by their run, values by ``key``."""
        batch = self.as_read([self._record(self.position + place, told, key) for place, told in enumerate(records)])
        changes = Changes()
        absent = self.fold.absent(batch)
        self.fold.take_in((name, self.handles[name], self.rows[name].body) for name in absent if name in self.rows)
        end = self.position + len(batch)
        self.fold.fold(batch, next_position=end, expected=self.position, changes=changes)
        self.position = end
        self._commit(changes)
        return changes

    def state(self, run_id: str = "run_1") -> RunState:
        return decode_state(self.rows[run_id].body)

    def _record(self, offset: int, told: StoredRecord | Event | bytes | None, key: bytes | None) -> StoredRecord:
        if isinstance(told, StoredRecord):
            return told._replace(offset=offset)
        if isinstance(told, Event):
            return StoredRecord(offset, told.occurred_at + 5, told.run_id.encode(), encode(told))
        return StoredRecord(offset, START * 1000, key, told)

    def _commit(self, changes: Changes) -> None:
        handles = {}
        for row in changes.runs:
            self.rows[row.run_id] = row
            handle = handles[0, row.run_id] = self.handles.setdefault(row.run_id, len(self.handles) + 1)
            assert row.handle in (0, handle)
        self.fold.settle(handles)
        for bucket, sums in changes.usage.items():
            kept = self.usage.setdefault(bucket, [0] * len(sums))
            self.usage[bucket] = [old + new for old, new in zip(kept, sums, strict=True)]


def reason(verdict: Any) -> str:
    assert isinstance(verdict, Rejection)
    return verdict.reason
