"""Decoding and folding in memory, in microseconds of CPU an event, beside a bare fold of the same bytes in the same run.

Run it with ``python tests/bench/bench_fold.py [--events N] [--rounds N]``. Rounds of all candidates alternate, so that a
noisy machine is noisy for all; the medians and their ratios to the baseline are what to read. The baseline decodes into
structs and keeps the latest state of each run in a dictionary: it remembers no ids, checks no keys, clocks or order, and
builds no rows.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from itertools import islice
from random import Random
from typing import Any, Union

import msgspec
from msgspec import Raw, Struct

from runfold.demo.traffic import interleaved
from runfold.fold.batch import PartitionFold
from runfold.fold.changes import Changes
from runfold.fold.record import StoredRecord
from runfold.fold.run import fold
from runfold.fold.state import RunState
from runfold_schemas.codec import decode_lean, encode
from runfold_schemas.events import Event

OPEN_RUNS = 5_000
BATCH = 20_000


class Used(Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_token_details: dict[str, int] | None = None
    completion_tokens_details: dict[str, int] | None = None


class Told(Struct, frozen=True, tag_field="type"):
    id: str
    run_id: str
    thread_id: str
    occurred_at: int
    sequence: int = 0


class Created(Told, frozen=True, kw_only=True, tag="thread.run.created"):
    assistant_id: str
    model: str
    instructions: str | None = None
    tools: Raw = Raw(b"\x90")
    metadata: dict[str, str] = {}
    expires_at: int | None = None


class Queued(Told, frozen=True, tag="thread.run.queued"): ...


class InProgress(Told, frozen=True, tag="thread.run.in_progress"): ...


class RequiresAction(Told, frozen=True, kw_only=True, tag="thread.run.requires_action"):
    required_action: Raw


class Ended(Told, frozen=True, kw_only=True):
    usage: Used | None = None


class Completed(Ended, frozen=True, tag="thread.run.completed"): ...


class Failed(Ended, frozen=True, tag="thread.run.failed"): ...


class Cancelled(Ended, frozen=True, tag="thread.run.cancelled"): ...


class Expired(Ended, frozen=True, tag="thread.run.expired"): ...


class Bare(Struct):
    """A run, as the bare fold keeps it."""

    created: Created
    status: str = "queued"
    started_at: int | None = None
    ended_at: int | None = None
    required_action: Raw | None = None
    usage: Used | None = None
    sequence: int = 1


KINDS = (Created, Queued, InProgress, RequiresAction, Completed, Failed, Cancelled, Expired)
STATUS = {kind: kind.__struct_config__.tag.removeprefix("thread.run.") for kind in KINDS}
decode_bare = msgspec.msgpack.Decoder(Union[KINDS]).decode  # noqa: UP007 - a union of a tuple


def bare(values: list[bytes]) -> None:
    """The baseline: decode, keep the latest state, add up usage, let go of what ended."""
    runs: dict[str, Bare] = {}
    for begin in range(0, len(values), BATCH):
        usage: dict[Any, list[int]] = {}
        ended = []
        for value in values[begin : begin + BATCH]:
            event = decode_bare(value)
            if type(event) is Created:
                runs[event.run_id] = Bare(event)
                continue
            run = runs.get(event.run_id)
            if run is None or event.sequence != run.sequence + 1 or run.ended_at is not None:
                continue
            bare_follow(run, event, usage)
            if run.ended_at is not None:
                ended.append(event.run_id)
        for run_id in ended:
            del runs[run_id]


def bare_follow(run: Bare, event: Told, usage: dict[Any, list[int]]) -> None:
    kind = type(event)
    run.sequence, at, run.status = event.sequence, event.occurred_at // 1000, STATUS[kind]
    run.required_action = None
    if kind is InProgress:
        run.started_at = at
    elif kind is RequiresAction:
        run.required_action = event.required_action
    elif kind is not Queued:
        run.ended_at, run.usage = at, event.usage
        told, named = run.created, run.created.metadata.get
        key = (at // 60, told.model, told.assistant_id, named("project_id"), named("user_id"), run.status)
        bucket = usage.setdefault(key, [0, 0, 0, 0])
        bucket[0] += 1
        if event.usage is not None:
            bucket[1] += event.usage.prompt_tokens
            bucket[2] += event.usage.completion_tokens
            bucket[3] += event.usage.total_tokens


def ours(records: list[StoredRecord], batch: Callable[[PartitionFold, list[StoredRecord], int], None]) -> None:
    runs = PartitionFold(0)
    for begin in range(0, len(records), BATCH):
        batch(runs, records[begin : begin + BATCH], begin)


class AnyHandle(dict[tuple[int, str], int]):
    """The handles that a store would give to new rows."""

    def __missing__(self, key: tuple[int, str]) -> int:
        return 1


HANDLES = AnyHandle()


def fold_batch(runs: PartitionFold, records: list[StoredRecord], begin: int) -> None:
    """All that the service does with a batch but reading and writing."""
    changes = Changes()
    runs.absent(records)
    runs.fold(records, next_position=begin + len(records), expected=begin, changes=changes)
    runs.settle(HANDLES)


def simple(records: list[StoredRecord]) -> None:
    """The simple fold, event by event: no short cuts, no rows, no checks of keys and clocks."""
    runs: dict[str, RunState] = {}
    for record in records:
        event = decode_lean(record.value)
        assert isinstance(event, Event)
        state, _ = fold(runs.get(event.run_id), event)
        if state.ended_at is None:
            runs[event.run_id] = state
        else:
            runs.pop(event.run_id, None)


def cpu(work: Callable[[], None], events: int) -> float:
    """Microseconds of CPU an event."""
    gc.collect()
    gc.freeze()
    begin = time.process_time()
    work()
    return (time.process_time() - begin) / events * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=7)
    wanted = parser.parse_args()
    events = list(islice(interleaved(OPEN_RUNS, Random(7)), wanted.events))
    values = [encode(event) for event in events]
    records = [
        StoredRecord(offset, event.occurred_at + 5, event.run_id.encode(), value)
        for offset, (event, value) in enumerate(zip(events, values, strict=True))
    ]
    del events
    candidates: dict[str, Callable[[], None]] = {
        "bare decode + fold (baseline)": lambda: bare(values),
        "decode": lambda: [None for value in values if decode_lean(value) is None] and None,
        "decode + simple fold": lambda: simple(records),
        "decode + fold + rows": lambda: ours(records, fold_batch),
    }
    gc.set_threshold(100_000, 50, 50)
    figures: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(wanted.rounds):
        for name, work in candidates.items():
            figures[name].append(cpu(work, wanted.events))
    baseline = figures["bare decode + fold (baseline)"]
    print(
        f"{wanted.events:,} events, {OPEN_RUNS:,} runs open, batches of {BATCH:,}; us CPU an event, ratio to the baseline"
    )
    for name, rounds in figures.items():
        ratios = [ours / bare for ours, bare in zip(rounds, baseline, strict=True)]
        print(
            f"{name:32} median {statistics.median(rounds):5.2f}  best {min(rounds):5.2f}"
            f"  ratio {statistics.median(ratios):4.2f}"
        )


if __name__ == "__main__":
    main()
