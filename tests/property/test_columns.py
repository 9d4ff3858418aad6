"""Records that lie in columns: a sequence like any other, and folded as the same records that lie apart."""

from __future__ import annotations

from array import array
from itertools import islice
from random import Random
from typing import Any

import pytest
from fold_histories import SMALL, Folded, random_log
from hypothesis import given, settings
from hypothesis import strategies as st
from record_columns import columns_of
from short_cuts import needs_compiled

from runfold.demo.traffic import interleaved
from runfold.fold.record import StoredRecord, bytes_of
from runfold.fold.rules import DEFAULT_RULES
from runfold.fold.short_cut import in_columns, nothing_met
from runfold_schemas import encode

pytestmark = needs_compiled
randoms = st.randoms(use_true_random=False)
short = st.binary(max_size=20)
usual = st.builds(StoredRecord, st.integers(0, 2**62), st.integers(0, 2**62), short, short, st.just(()))
bounds = st.none() | st.integers(-12, 12)


@given(st.lists(usual, max_size=10), bounds, bounds, st.none() | st.sampled_from((-2, -1, 1, 2)))
def test_they_are_a_sequence_of_the_records(
    records: list[StoredRecord], first: int | None, last: int | None, step: int | None
) -> None:
    """Each by its place, from either end, any stretch of them, a stretch of a stretch, and how many bytes they have."""
    made = columns_of(records)
    assert list(made) == records
    assert [made[-nth - 1] for nth in range(len(made))] == records[::-1]
    part, wanted = made[first:last:step], records[first:last:step]
    assert list(part) == wanted
    assert list(part[1:]) == wanted[1:]
    assert bytes_of(part) == bytes_of(wanted)


def test_there_is_none_beyond_the_last() -> None:
    """A place beyond either end is an IndexError, as of a list."""
    made = columns_of([StoredRecord(1, 2, b"key", b"value")])
    for place in (1, -2, 2**40):
        with pytest.raises(IndexError):
            made[place]


@settings(max_examples=300)
@given(randoms, st.sampled_from((DEFAULT_RULES, SMALL)), st.booleans(), st.booleans())
def test_they_are_folded_as_those_that_lie_apart(rng: Random, limits: Any, doubled: bool, fresh: bool) -> None:
    """Any log in any batches gives the same rows, usage, letters, journal and tally; also where a key has two names."""
    log = random_log(rng, broken=rng.random() < 0.3)
    simple = Folded(limits, compiled=False).take(log, rng)
    options = {"to_come": len(log)} if fresh else {}
    columns = Folded(limits, as_read=lambda records: columns_of(records, doubled=doubled), **options).take(log, rng)
    assert columns.rows == simple.rows
    assert columns.usage == simple.usage
    assert (columns.letters, columns.journal, columns.tally) == (simple.letters, simple.journal, simple.tally)


def test_ordinary_traffic_is_folded_alike() -> None:
    """Thousands of interleaved runs, cut into batches of a hundred: the same rows, in the same order."""
    told = islice(interleaved(50, Random(5)), 3_000)
    log = [StoredRecord(nth, each.occurred_at, each.run_id.encode(), encode(each)) for nth, each in enumerate(told)]
    apart, columns = Folded(), Folded(as_read=columns_of, to_come=len(log))
    for first in range(0, len(log), 100):
        batch = log[first : first + 100]
        assert columns.partition.feed(*batch).runs == apart.partition.feed(*batch).runs


@pytest.mark.parametrize(
    ("offsets", "keys", "ends", "count"),
    [
        ([1], [0, 0], [0, 1, 2], 2),
        ([1, 2], [0], [0, 1, 2], 2),
        ([1, 2], [0, 0], [0, 1], 2),
        ([1, 2], [0, 1], [0, 1, 2], 2),
        ([1, 2], [0, -1], [0, 1, 2], 2),
        ([1, 2], [0, 0], [0, 1, 3], 2),
        ([1, 2], [0, 0], [2, 1, 2], 2),
        ([1, 2], [0, 0], [-1, 1, 2], 2),
        ([1, 2], [0, 0], [0, 1, 2], -1),
    ],
)
def test_columns_that_do_not_fit_are_refused(offsets: list[int], keys: list[int], ends: list[int], count: int) -> None:
    """Nothing is read beyond a buffer: columns too short, keys without a name and values outside are a ValueError."""
    with pytest.raises(ValueError, match="column"):
        in_columns(
            array("q", offsets),
            array("q", [3, 4]),
            array("i", keys),
            array("i", ends),
            b"ab",
            names=[b"k"],
            count=count,
        )


@given(st.lists(st.lists(st.none() | short)), st.integers(0, 100))
def test_what_was_met_is_never_taken_for_new(batches: list[list[bytes | None]], expected: int) -> None:
    """Of keys that were met before each is told, however few were expected."""
    met, known = nothing_met(expected), set[bytes | None]()
    assert met is not None
    for keys in batches:
        assert known & set(keys) <= set(met.before(keys))
        known |= set(keys)


def test_what_is_new_is_nearly_always_told_so() -> None:
    """Of as many runs as there were to be records, hardly any is taken for one that was met: else nothing would be gained."""
    met = nothing_met(100_000)
    assert met is not None
    told = sum(len(met.before([b"run_%d" % (place * 100 + nth) for nth in range(100)])) for place in range(200))
    assert told < 20_000 * 0.03
