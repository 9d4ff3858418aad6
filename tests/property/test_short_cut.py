"""The compiled short cut against the simple fold: whatever the log holds, both give the same bytes."""

from __future__ import annotations

import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fold_histories import ENDS, SMALL, Folded, ordinary_run, random_log
from fold_stories import event, usage
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import msgpack
from short_cuts import Bodies, nearly_the_same, needs_compiled, outcome

from runfold.demo.traffic import interleaved, lifecycle
from runfold.fold.batch import PartitionFold
from runfold.fold.changes import Changes
from runfold.fold.record import StoredRecord
from runfold.fold.rules import DEFAULT_RULES
from runfold.fold.short_cut import short_cut
from runfold_schemas import Event, RunCreated, RunInProgress, RunQueued, RunRequiresAction, TokenDetails, Usage, encode
from runfold_schemas.codec import decode_lean
from runfold_schemas.testing import random_event

pytestmark = needs_compiled
randoms = st.randoms(use_true_random=False)
rules = st.sampled_from((DEFAULT_RULES, SMALL))
FUZZED = 4_000


@settings(max_examples=400)
@given(randoms, rules)
def test_both_ways_give_the_same_bytes(rng: Random, limits: Any) -> None:
    """Rows, usage, letters, journal and tally of any log, cut into any batches, are those of the simple fold."""
    log = random_log(rng)
    compiled, simple = Folded(limits).take(log, rng), Folded(limits, compiled=False).take(log, rng)
    assert compiled.rows == simple.rows
    assert compiled.usage == simple.usage
    assert (compiled.letters, compiled.journal, compiled.tally) == (simple.letters, simple.journal, simple.tally)


@given(randoms)
def test_any_valid_events_give_the_same_bytes(rng: Random) -> None:
    """Events with any of their fields, numbered and in good order, give what the simple fold gives."""
    told = [random_event(rng, run_id="run_1") for _ in range(6)]
    told = [encode(each) for each in told]
    records = [StoredRecord(place, 2_000_000_000_000, b"run_1", value) for place, value in enumerate(told)]
    assert outcome(records, {}, compiled=True) == outcome(records, {}, compiled=False)


def test_damaged_bytes_give_the_same_or_the_same_error() -> None:
    """Values and bodies with a few bytes changed come to the same with the short cut as without, errors included."""
    fuzz(Random(20261125), FUZZED)


def fuzz(rng: Random, count: int) -> None:
    """``count`` small batches, values and bodies damaged at random, both ways."""
    known = list(islice(real_runs(rng), 300))
    for _ in range(count):
        records, bodies = rng.choice(known)
        if rng.random() < 0.5 and bodies:
            bodies = {key: nearly_the_same(body, rng) for key, body in bodies.items()}
        else:
            at = rng.randrange(len(records))
            damaged = records[at]._replace(value=nearly_the_same(records[at].value, rng))
            records = [*records[:at], damaged, *records[at + 1 :]]
        assert outcome(records, bodies, compiled=True) == outcome(records, bodies, compiled=False), (records, bodies)


def real_runs(rng: Random) -> Any:
    """For ever: the next records of a run, and its row before them."""
    while True:
        if rng.random() < 0.5:
            told = list(lifecycle(rng.randrange(99), 1_760_000_000_000, rng, source="a"))
        else:
            told = ordinary_run(rng, run_id="run_1")
        yield cut(told, rng.randrange(len(told)))


def cut(told: list[Event], at: int) -> tuple[list[StoredRecord], Bodies]:
    records = [
        StoredRecord(place, each.occurred_at + 5, each.run_id.encode(), encode(each)) for place, each in enumerate(told)
    ]
    changes = Changes()
    PartitionFold(0).fold(records[:at], next_position=at, expected=0, changes=changes)
    return records[at:], {row.run_id.encode(): row.body for row in changes.runs}


def left_of(*told: Event) -> int:
    """How many of the events, in their order, the short cut leaves to the simple fold."""
    runs: dict[bytes | None, list[Any]] = {}
    for place, each in enumerate(told):
        key = each.run_id.encode()
        runs.setdefault(key, []).append(StoredRecord(place, each.occurred_at, key, encode(each)))
    compiled = short_cut(0, DEFAULT_RULES)
    assert compiled is not None
    folded, _ = compiled.fold(runs, {}, Changes(), [])
    return len(told) - folded


CREATED = {"sequence": 1, "source": "a"}
NEXT = {"sequence": 2, "source": "a"}
ACTION = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": []}}
DETAILED = Usage(
    prompt_tokens=2**53,
    completion_tokens=0,
    total_tokens=300,
    prompt_token_details=TokenDetails(cached_tokens=70_000),
    completion_tokens_details=TokenDetails(),
)
SET = {
    "temperature": 0.7,
    "top_p": 1.0,
    "max_prompt_tokens": 5_000_000_000,
    "parallel_tool_calls": True,
    "reasoning_effort": "high",
    "expires_at": -1,
}


@pytest.mark.parametrize(
    "told",
    [
        [event(RunCreated, **CREATED)],
        [event(RunCreated, **CREATED, **SET)],
        [event(RunCreated, **CREATED, model="Modell für Ü", instructions="日" * 30_000, metadata={"k": "v" * 300})],
        [event(RunCreated, **CREATED), event(RunInProgress, **NEXT)],
        [event(RunCreated, **CREATED), event(RunRequiresAction, **NEXT, required_action=ACTION)],
        *([event(RunCreated, **CREATED), event(end, **NEXT, usage=DETAILED)] for end in ENDS),
        [event(RunCreated, **CREATED), event(ENDS[1], **NEXT, last_error={"code": "rate_limit", "message": "m"})],
    ],
)
def test_what_is_ordinary_takes_the_short_cut(told: list[Event]) -> None:
    """Ordinary events are folded by the short cut: else all that is compared here would be compared with itself."""
    assert left_of(*told) == 0
    records, _ = cut(told, 0)
    assert outcome(records, {}, compiled=True) == outcome(records, {}, compiled=False)


def test_ordinary_traffic_takes_the_short_cut() -> None:
    """Of simulated traffic it leaves nothing, once its tools have been met."""
    told = list(islice(interleaved(100, Random(3)), 5_000))
    decode_lean(encode(told[0]))
    assert left_of(*told) == 0


@pytest.mark.parametrize("letter", ["x", "é", "日"])
def test_marks_of_any_length_are_the_same(letter: str) -> None:
    """Ids of every length, and contents of many, are marked alike: some by hashes of its own, others by the library's."""
    for length in range(1, 65):
        told = event(RunCreated, **CREATED, id=letter * length, instructions=letter * (3 * length))
        following = event(
            ENDS[0], **NEXT, id=letter * length + "." if length < 64 else "id", usage=usage(length, length)
        )
        records, _ = cut([told, following], 0)
        if len((letter * length).encode()) <= 64:
            assert left_of(told) == 0
        assert outcome(records, {}, compiled=True) == outcome(records, {}, compiled=False)


def test_tools_are_met_on_the_way() -> None:
    """The first run with new tools takes the short cut as well: else all of a process's first batch would not."""
    tools = [{"type": "function", "function": {"name": f"never_seen_{time.monotonic_ns()}"}}]
    assert left_of(event(RunCreated, **CREATED, tools=tools)) == 0


@pytest.mark.parametrize("tools", [[b"no JSON"], {"no": "list"}, [float("inf")], [{"type": 1}]])
def test_tools_that_are_none_are_rejected_alike(tools: Any) -> None:
    """Values that are not of their field's type, or no JSON, come to what the simple fold makes of them."""
    value = msgpack.encode(msgpack.decode(encode(event(RunCreated, **CREATED))) | {"tools": tools})
    records = [StoredRecord(0, 1_800_000_000_000, b"run_1", value)]
    assert outcome(records, {}, compiled=True) == outcome(records, {}, compiled=False)


@pytest.mark.parametrize(
    "told",
    [
        event(RunQueued, **NEXT),
        event(RunInProgress, source="a", sequence=3),
        event(RunInProgress, source="b", sequence=1),
        event(RunInProgress),
        event(RunInProgress, **NEXT, approximate=True),
        event(RunInProgress, **NEXT, thread_id="thread_2"),
        event(ENDS[0], **NEXT, usage=usage(), last_error={"code": 1}),
    ],
)
def test_what_is_out_of_the_ordinary_is_left(told: Event) -> None:
    """The next status a run may enter, under the next number of its one source: everything else is left to the fold."""
    assert left_of(event(RunCreated, **CREATED), told) == 1


LONG = [RunInProgress, RunQueued] * 600


def test_a_long_run_is_the_same_up_to_its_limits() -> None:
    """Over a thousand events of one run come to the same, also where they begin to be too many."""
    told = [event(RunCreated, **CREATED)]
    told += [event(kind, at, source="a", sequence=at) for at, kind in enumerate(LONG, 2)]
    records, _ = cut(told, 0)
    assert outcome(records, {}, compiled=True) == outcome(records, {}, compiled=False)


SCRIPT = """
import sys
sys.modules["runfold.fold._swift"] = None  # as where it was not built
from hashlib import sha256
from itertools import islice
from random import Random
from runfold.demo.traffic import interleaved
from runfold.fold.short_cut import BUILT
from test_short_cut import digest_of_traffic
print(BUILT, digest_of_traffic())
"""


def digest_of_traffic() -> str:
    log = [
        StoredRecord(place, each.occurred_at, each.run_id.encode(), encode(each))
        for place, each in enumerate(islice(interleaved(50, Random(9)), 2_000))
    ]
    store = Folded().take(log, Random(1))
    return str(hash_of((sorted(store.rows.items()), sorted(store.usage.items()), store.tally)))


def hash_of(value: Any) -> int:
    from zlib import crc32

    return crc32(repr(value).encode())


def test_without_the_extension_everything_is_the_same(tmp_path: Path) -> None:
    """In a process that cannot import the extension the same log gives the same rows, usage and tally."""
    here = Path(__file__).parent
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": f"{here}:{here.parent / 'support'}", "PATH": ""},
    )
    assert answer.stdout.split() == ["False", digest_of_traffic()]
