"""Properties of the fold, over random histories."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

import pytest
from fold_histories import (
    ENDS,
    SMALL,
    Folded,
    fields_of,
    numbered_run,
    odd_run,
    ordinary_run,
    random_log,
    record_of,
    shuffled_together,
)
from fold_stories import event
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import json
from run_contract import SCHEMA, run_validator

from runfold.fold.batch import PartitionFold
from runfold.fold.changes import Changes
from runfold.fold.outcome import Flag
from runfold.fold.projection import encode_run, project
from runfold.fold.rules import DEFAULT_RULES
from runfold.fold.run import fold
from runfold.fold.state import RunState, decode_shown, decode_state, encode_state
from runfold.fold.table import walk
from runfold.fold.timeline import entries
from runfold.fold.usage import SUMS
from runfold_schemas import (
    Event,
    RunCancelling,
    RunCreated,
    RunInProgress,
    RunQueued,
    RunRequiresAction,
)

randoms = st.randoms(use_true_random=False)
rules = st.sampled_from((DEFAULT_RULES, SMALL))


def folded(told: list[Event], limits: Any = DEFAULT_RULES) -> RunState:
    state = None
    for each in told:
        state, _ = fold(state, each, limits)
    assert state is not None
    return state


@given(randoms, rules)
def test_any_batching_agrees(rng: Random, limits: Any) -> None:
    """However a log is cut into batches: the same rows, usage, letters, journal and tally, to the byte."""
    log = random_log(rng)
    whole, cut = Folded(limits).take(log), Folded(limits).take(log, rng)
    assert cut.rows == whole.rows
    assert cut.usage == whole.usage
    assert (cut.letters, cut.journal, cut.tally) == (whole.letters, whole.journal, whole.tally)


@given(randoms, rules)
def test_redelivery_of_everything_changes_nothing(rng: Random, limits: Any) -> None:
    """Events that all come a second time change no Run and no usage."""
    runs = [odd_run(rng, run_id=f"run_{number}", unique_ids=True) for number in range(3)]
    log = [record_of(each, 0, rng, broken=False) for each in shuffled_together(runs, rng)]
    once = Folded(limits).take(log)
    shown, used = projections(once), once.usage
    again = once.take(log, rng)
    assert projections(again) == shown
    assert again.usage == used


@given(randoms)
def test_partitions_commute(rng: Random) -> None:
    """Two partitions folded in either order give the same rows and the same usage."""
    logs = {0: random_log(rng), 1: random_log(rng)}
    one, other = both(logs, (0, 1)), both(logs, (1, 0))
    assert sorted(one.runs) == sorted(other.runs)
    assert one.usage == other.usage
    assert one.tally == other.tally


def both(logs: dict[int, Any], order: tuple[int, int]) -> Changes:
    changes = Changes()
    for partition in order:
        log = logs[partition]
        PartitionFold(partition).fold(log, next_position=len(log), expected=0, changes=changes)
    return changes


@given(randoms)
def test_no_runs_usage_counts_twice(rng: Random) -> None:
    """Whatever comes again, a run that has ended is one run in usage, with the tokens that it shows."""
    log = random_log(rng)
    store = Folded().take(log + log, rng)
    states = [decode_state(row.body) for row in store.rows.values()]
    ended = [state for state in states if state.ended_at is not None]
    total = dict(zip(SUMS, map(sum, zip(*store.usage.values(), strict=True)), strict=False))
    assert total.get("runs", 0) == len(ended)
    assert total.get("prompt_tokens", 0) == sum(state.usage.prompt_tokens for state in ended if state.usage)


@given(randoms, rules)
def test_buckets_hold_what_runs_have_booked(rng: Random, limits: Any) -> None:
    """After any prefix of a log, the sum over usage buckets is the sum over the runs' bookings."""
    store = Folded(limits)
    for record in random_log(rng):
        store.take([record])
        booked: dict[Any, list[int]] = {}
        for row in store.rows.values():
            booking = decode_state(row.body).booked
            if booking is not None:
                sums = booked.setdefault(booking.bucket, [0] * len(SUMS))
                booked[booking.bucket] = [old + new for old, new in zip(sums, booking.sums, strict=True)]
        assert store.usage == booked


@given(randoms)
def test_the_journal_tells_what_changed_since_a_run_became_final(rng: Random) -> None:
    """The first booking of every run and all journal rows together are the usage."""
    store, first = Folded(), {}
    for record in random_log(rng):
        store.take([record])
        for row in store.rows.values():
            booked = decode_state(row.body).booked
            if booked is not None:
                first.setdefault(row.run_id, booked)
    sums: dict[Any, list[int]] = {}
    for bucket, numbers in [*first.values(), *((entry.bucket, entry.sums) for entry in store.journal)]:
        sums[bucket] = [old + new for old, new in zip(sums.get(bucket, [0] * len(SUMS)), numbers, strict=True)]
    assert {bucket: numbers for bucket, numbers in sums.items() if any(numbers)} == store.usage


@given(randoms, rules)
def test_a_refold_of_one_run_equals_live(rng: Random, limits: Any) -> None:
    """A run's own records alone give the row, the letters and the journal that the whole log gave it."""
    log = random_log(rng)
    live = Folded(limits).take(log, rng)
    for run_id, row in live.rows.items():
        alone = Refold(limits).of(
            [(place, record) for place, record in enumerate(log) if record.key == row.run_id.encode()]
        )
        assert alone.runs[0]._replace(handle=0) == row
        assert alone.letters == [letter for letter in live.letters if letter.run_id == run_id]
        assert alone.journal == [entry for entry in live.journal if entry.run_id == run_id]


class Refold:
    """One run's records, folded at the offsets they have in the log."""

    def __init__(self, limits: Any) -> None:
        self.fold = PartitionFold(0, rules=limits)

    def of(self, records: list[tuple[int, Any]]) -> Changes:
        changes = Changes()
        placed = [record._replace(offset=offset) for offset, record in records]
        self.fold.fold(placed, next_position=0, expected=0, changes=changes)
        return changes


@given(randoms)
def test_any_order_of_a_numbered_source_gives_the_same_run(rng: Random) -> None:
    """All events of a run from one numbered source, in any order and any number of times, give the Run that order gives."""
    told = numbered_run(rng)
    if not told:
        return
    shuffled = told + [rng.choice(told) for _ in range(rng.randrange(3))]
    rng.shuffle(shuffled)
    one, other = folded(told), folded(shuffled)
    assert project(other) == project(one)
    if not one.flags & Flag.INCOMPLETE:
        assert walked(other) == walked(one)


LEGAL = {
    RunQueued: (RunInProgress, RunRequiresAction, RunCancelling, *ENDS),
    RunInProgress: (RunQueued, RunInProgress, RunRequiresAction, RunCancelling, *ENDS),
    RunRequiresAction: (RunQueued, RunInProgress, RunRequiresAction, RunCancelling, *ENDS),
    RunCancelling: ENDS,
}
STATUS = {kind: kind.__struct_config__.tag.removeprefix("thread.run.") for kind in (*LEGAL, *ENDS)}


@given(randoms)
def test_two_sources_with_clocks_apart_never_show_a_wrong_status(rng: Random) -> None:
    """Two causally interleaved sources whose clocks are 2 s apart: the status is the last one told, at every step."""
    numbers = {"a": 0, "b": 0}

    def tell(kind: type[Event], now: float) -> Event:
        source = rng.choice("ab")
        numbers[source] += 1
        names = {"id": f"{source}{numbers[source]}", "source": source, "sequence": numbers[source]}
        return event(kind, now + (2 if source == "b" else 0), **names, **fields_of(kind, rng))

    now, kind = 0.0, RunQueued
    state, _ = fold(None, tell(RunCreated, now))
    for _ in range(12):
        if kind in ENDS:
            break
        now, kind = now + rng.random(), rng.choice(LEGAL[kind])
        state, _ = fold(state, tell(kind, now))
        assert project(state)["status"] == STATUS[kind]


@settings(max_examples=400)
@given(randoms, rules)
def test_short_cuts_equal_the_simple_fold(rng: Random, limits: Any) -> None:
    """A partition's fold gives, byte for byte, the rows that the simple fold gives event by event."""
    kinds = (odd_run, ordinary_run, ordinary_run)
    told = shuffled_together([rng.choice(kinds)(rng, run_id=f"run_{number}") for number in range(3)], rng)
    store = Folded(limits).take([record_of(each, 0, rng, broken=False) for each in told], rng)
    simple: dict[str, RunState] = {}
    tally: dict[str, int] = {}
    for each in told:
        simple[each.run_id], verdict = fold(simple.get(each.run_id), each, limits)
        outcome = verdict if isinstance(verdict, str) else "rejected"
        tally[outcome] = tally.get(outcome, 0) + 1
    assert store.tally == tally
    for run_id, state in simple.items():
        row = decode_state(store.rows[run_id].body)
        row.first_offset = row.last_offset = -1
        row.final_offset = row.final_timestamp = None
        assert encode_state(row) == encode_state(state)


@given(randoms, rules)
def test_durations_kept_on_the_way_equal_a_walk(rng: Random, limits: Any) -> None:
    """What is counted event by event is what a walk over the whole timeline comes to, once created is known."""
    state = None
    for each in rng.choice((odd_run, ordinary_run))(rng, run_id="run_1"):
        state, _ = fold(state, each, limits)
        if not state.flags & Flag.INCOMPLETE:
            kept = (state.status, state.started_at, state.since, state.queue_ms, state.run_ms, state.exact)
            assert kept == walked(state)


def walked(state: RunState) -> tuple[Any, ...]:
    return walk(entries(state.timeline), created_at=state.first_at)[:6]


@pytest.mark.skipif(not SCHEMA.is_file(), reason=f"no contract of the Run at {SCHEMA}: set RUNFOLD_SHARED")
@given(randoms, rules)
def test_every_projection_keeps_the_contract(rng: Random, limits: Any) -> None:
    """Whatever is told of a run, at every step it validates against the contract of the Run."""
    state = None
    for each in odd_run(rng, run_id="run_1"):
        state, _ = fold(state, each, limits)
        contract().validate(project(state))


contract = cache(run_validator)


@given(randoms, rules)
def test_states_survive_the_store(rng: Random, limits: Any) -> None:
    """A state that was encoded and decoded is the same state, to the byte."""
    state = folded(odd_run(rng, run_id="run_1"), limits)
    assert encode_state(decode_state(encode_state(state))) == encode_state(state)


@given(randoms, rules)
def test_what_is_encoded_is_the_projection(rng: Random, limits: Any) -> None:
    """The Run as JSON, made from the part of a state that people are shown, is what the whole state projects to."""
    state = folded(odd_run(rng, run_id="run_1"), limits)
    assert json.decode(encode_run(decode_shown(encode_state(state)))) == project(state)


def projections(store: Folded) -> dict[str, dict[str, Any]]:
    return {run_id: project(decode_state(row.body)) for run_id, row in store.rows.items()}
