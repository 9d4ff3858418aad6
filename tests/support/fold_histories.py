"""Random histories of runs: what publishers tell, in what order and with what faults. Everything comes from a ``Random``.

Small pools of ids, numbers, times and threads make collisions likely: duplicates, conflicts, gaps, second ends, sources
that count anew. Hypothesis hands in its own ``Random`` (``st.randoms``), and shrinks what it found.
"""

from __future__ import annotations

from itertools import count
from random import Random
from typing import Any

from fold_stories import Partition, event, usage

from runfold.fold.changes import Changes
from runfold.fold.record import StoredRecord
from runfold.fold.rules import DEFAULT_RULES, Rules
from runfold_schemas import (
    EVENT_TYPES,
    Event,
    RunCancelling,
    RunCreated,
    RunEnded,
    RunInProgress,
    RunModified,
    RunQueued,
    RunRequiresAction,
    RunUsageCorrected,
    encode,
    encode_json,
)

SMALL = Rules(most_events=8, most_corrections=2, alarm_events=5)
ENDS = tuple(kind for kind in EVENT_TYPES if issubclass(kind, RunEnded))
OPEN = (RunQueued, RunInProgress, RunInProgress, RunRequiresAction, RunCancelling)
ODD_NAMES: tuple[dict[str, Any], ...] = (
    {"thread_id": "thread_2"},
    {"approximate": True},
    {"source": "b"},
    {"source": None},
    {"sequence": None},
    {"id": "u1"},
)
TOLD = (*OPEN, RunModified, RunModified, RunUsageCorrected)


def fields_of(kind: type[Event], rng: Random) -> dict[str, Any]:
    """What an event of this kind carries, out of small pools."""
    if kind is RunCreated:
        metadata = {"project_id": rng.choice("xyz")} if rng.random() < 0.6 else {}
        return {
            "metadata": metadata,
            "expires_at": rng.choice((None, 5)),
            "tools": rng.choice(([], [{"b": 1, "a": 2}])),
        }
    if kind is RunRequiresAction:
        return {"required_action": {"submit_tool_outputs": {"tool_calls": [{"id": rng.choice("xyz")}]}}}
    if kind is RunModified:
        return {"metadata": {"project_id": rng.choice("xyz")}}
    if kind is RunUsageCorrected:
        return {"usage": usage(rng.randrange(5), rng.randrange(5))}
    if issubclass(kind, RunEnded):
        used = usage(rng.randrange(5), rng.randrange(5)) if rng.random() < 0.7 else None
        return {"usage": used, "last_error": {"code": "x"} if rng.random() < 0.2 else None}
    return {}


def numbered_run(rng: Random) -> list[Event]:
    """Events of one run from one numbered source, in its order: at most one created and one end, at any place."""
    kinds = [rng.choice(TOLD) for _ in range(rng.randrange(1, 9))]
    for once in (RunCreated, rng.choice(ENDS)):
        if rng.random() < 0.8:
            kinds.insert(rng.choice((0, rng.randrange(len(kinds) + 1), len(kinds))), once)
    told = []
    for sequence, kind in enumerate(kinds, 1):
        if rng.random() < 0.9:  # else it went missing
            times = {"at": rng.randrange(8), "approximate": rng.random() < 0.05}
            told.append(event(kind, **times, id=str(sequence), source="a", sequence=sequence, **fields_of(kind, rng)))
    return told


def odd_event(rng: Random, *, run_id: str, event_id: str) -> Event:
    """Any event of a run, from any of three sources, under any number."""
    kind = rng.choice((RunCreated, RunCreated, *TOLD, *TOLD, *rng.sample(ENDS, 2)))
    fields = fields_of(kind, rng)
    if kind is RunCreated and rng.random() < 0.2:
        fields["model"] = "o3"
    if rng.random() < 0.1:
        fields["thread_id"] = "thread_2"
    if rng.random() < 0.8:
        fields["source"] = rng.choice("aab")
    if rng.random() < 0.7:
        fields["sequence"] = rng.choice((1, 2, 3, 4, 5, 6, 7, 20_001))
    return event(kind, rng.randrange(90), approximate=rng.random() < 0.05, run_id=run_id, id=event_id, **fields)


def ordinary_run(rng: Random, *, run_id: str) -> list[Event]:
    """Events of one run as a well-behaved publisher numbers them, now and then one out of the ordinary among them."""
    kinds = [RunCreated, *(rng.choice(OPEN[:4]) for _ in range(rng.randrange(1, 6))), rng.choice(ENDS)]
    at, told = 0, []
    for sequence, kind in enumerate(kinds, 1):
        at += rng.randrange(40)
        names = {"run_id": run_id, "id": f"u{sequence}", "source": "a", "sequence": sequence}
        if rng.random() < 0.08:  # ordinary but for one thing
            names |= rng.choice(ODD_NAMES)
        told.append(event(kind, at, **names, **fields_of(kind, rng)))
        if rng.random() < 0.08:
            told.append(odd_event(rng, run_id=run_id, event_id=rng.choice(("odd", f"u{sequence}"))))
    return told


def odd_run(rng: Random, *, run_id: str, unique_ids: bool = False) -> list[Event]:
    """A few events of one run that nobody keeps in any order."""
    names = map(str, count()) if unique_ids else iter(lambda: str(rng.randrange(40)), None)
    return [odd_event(rng, run_id=run_id, event_id=next(names)) for _ in range(rng.randrange(1, 16))]


def shuffled_together(runs: list[list[Any]], rng: Random) -> list[Any]:
    """One list of all, each run's own order kept."""
    left = [list(reversed(run)) for run in runs if run]
    told = []
    while left:
        run = rng.choice(left)
        told.append(run.pop())
        if not run:
            left.remove(run)
    return told


def random_log(rng: Random, *, broken: bool = True) -> list[StoredRecord]:
    """The records of a partition: a few runs, some odd, some ordinary, on either wire; broken records among them."""
    runs = [rng.choice((odd_run, ordinary_run))(rng, run_id=f"run_{number}") for number in range(rng.randrange(1, 4))]
    told = shuffled_together([repeated(run, rng) for run in runs], rng)
    return [record_of(each, offset, rng, broken=broken) for offset, each in enumerate(told)]


def repeated(run: list[Event], rng: Random) -> list[Event]:
    """The run's events, some of them once more, at any later place."""
    told = list(run)
    for each in run:
        if rng.random() < 0.1:
            told.insert(rng.randrange(told.index(each) + 1, len(told) + 1), each)
    return told


def record_of(told: Event, offset: int, rng: Random, *, broken: bool) -> StoredRecord:
    """The event as a record, on either wire; one in ten of them wrong in some way, if any may be."""
    value = rng.choice((encode, encode, encode_json))(told)
    record = StoredRecord(offset, told.occurred_at + 5, told.run_id.encode(), value)
    if not broken or rng.random() < 0.9:
        return record
    return rng.choice(
        (
            record._replace(value=value[:-3]),
            record._replace(value=value.replace(b"thread.run.", b"thread.ran.", 1)),
            record._replace(value=None),
            record._replace(key=None),
            record._replace(key=b"run_1"),
            record._replace(key=b"\xff"),
            record._replace(timestamp=1),
            record._replace(timestamp=-1),
        )
    )


class Folded:
    """What a store would have of a partition after folding a log in batches that ``rng`` cuts (or in one)."""

    def __init__(self, rules: Rules = DEFAULT_RULES, **options: Any) -> None:
        self.partition = Partition(rules, most_runs=2, **options)
        self.letters: list[Any] = []
        self.journal: list[Any] = []
        self.tally: dict[str, int] = {}

    def take(self, log: list[StoredRecord], rng: Random | None = None) -> Folded:
        while log:
            cut = len(log) if rng is None else rng.randrange(1, len(log) + 1)
            self.add(self.partition.feed(*log[:cut]))
            log = log[cut:]
        return self

    def add(self, changes: Changes) -> None:
        self.letters += changes.letters
        self.journal += changes.journal
        for outcome, number in changes.tally[0].items():
            self.tally[outcome] = self.tally.get(outcome, 0) + number

    @property
    def rows(self) -> dict[str, Any]:
        return {run_id: row._replace(handle=0) for run_id, row in self.partition.rows.items()}

    @property
    def usage(self) -> dict[Any, list[int]]:
        return {bucket: sums for bucket, sums in self.partition.usage.items() if any(sums)}
