"""What every store has to do, whichever it is: usage by part of time and by group, as its minutes add up."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from store_contract import NAMELESS, bucket, moves, sums

from runfold.fold.changes import Changes
from runfold.fold.usage import SUMS, BucketKey, Dimensions
from runfold.store.port import Lease, Store
from runfold.store.summing import summed
from runfold.store.usage_query import USAGE_GROUPS, UsageQuery, UsageSum
from runfold_schemas import RunStatus

ODD = Dimensions("a\x00b", "é, 'x'", "p\x01", "", "😀")


def minutes(count: int, *, seed: int = 3) -> dict[BucketKey, list[int]]:
    """Usage of random minutes, dimensions and ways to end; some of it is zeros."""
    random = Random(seed)
    named = [NAMELESS, ODD, *(Dimensions(f"m{n % 3}", "asst", f"p{n % 2}", f"u{n}", "") for n in range(5))]
    ended = (RunStatus.COMPLETED, RunStatus.FAILED)
    return {
        bucket(random.randrange(60), random.choice(named), random.choice(ended)): sums(random.randrange(4))
        for _ in range(count)
    }


QUERIES: list[dict[str, Any]] = [
    {"edges": (0, 60)},
    {"edges": (0, 60), "by": ("model",)},
    {"edges": tuple(range(61)), "by": USAGE_GROUPS},
    {"edges": (7, 8, 30, 41), "by": ("project_id", "status")},
    {"edges": (0, 30, 60), "by": ("status",)},
    {"edges": (0, 60), "by": ("user_id",), "only": {"model": ("m1", "m2")}},
    {"edges": (0, 60), "only": {"model": ("m1",), "project_id": ("p0",)}},
    {"edges": (0, 20, 60), "by": ("model",), "only": {"api_key_id": ("😀",), "model": ("a\x00b",)}},
    {"edges": (0, 60), "by": ("model",), "only": {"user_id": ("", "u3")}},
    {"edges": (0, 60), "only": {"model": ("never seen",)}},
    {"edges": (0, 60), "only": {"model": ()}},
    {"edges": (-500, -10)},
    {"edges": (60, 1 << 40)},
]


@pytest.mark.parametrize("wanted", QUERIES, ids=str)
async def test_sums_are_those_of_the_minutes(store: Store, leases: dict[int, Lease], wanted: dict[str, Any]) -> None:
    """Whatever is asked for, the store sums up what its minutes add up to, in the one order, without zeros."""
    await store.apply(Changes(usage=minutes(80), positions=moves()), leases)
    query = UsageQuery(**wanted)
    assert await store.sum_usage(query) == summed(await store.usage(), query)


async def test_a_part_is_half_open(store: Store, leases: dict[int, Lease]) -> None:
    """An edge belongs to the part that it begins."""
    booked = {bucket(minute): sums(1) for minute in (6, 7, 9, 10)}
    await store.apply(Changes(usage=booked, positions=moves()), leases)
    found = await store.sum_usage(UsageQuery(edges=(6, 7, 10)))
    assert [(part, told[0]) for part, _, told in found] == [(0, 1), (1, 2)]


async def test_sums_may_outgrow_63_bits(store: Store, leases: dict[int, Lease]) -> None:
    """Minutes that fit into 63 bits add up to more, to the last token, and so do buckets that do not fit."""
    large, larger = ([number if name.endswith("_tokens") else 1 for name in SUMS] for number in (2**62 + 1, 2**63 + 3))
    booked = {bucket(1): large, bucket(2): large, bucket(3, NAMELESS): larger}
    await store.apply(Changes(usage=booked, positions=moves()), leases)
    found = await store.sum_usage(UsageQuery(edges=(0, 60), by=("model",)))
    both = tuple(2 * number for number in large)
    assert found == [UsageSum(0, ("",), tuple(larger)), UsageSum(0, ("gpt-4o",), both)]


async def test_what_was_taken_back_is_not_in_the_sums(store: Store, leases: dict[int, Lease]) -> None:
    """A bucket that differences brought to zero does not show."""
    await store.apply(Changes(usage={bucket(): sums(1)}, positions=moves()), leases)
    await store.apply(Changes(usage={bucket(): sums(-1)}, positions=moves(begin=10, end=11)), leases)
    assert await store.sum_usage(UsageQuery(edges=(0, 60), by=("model",))) == []
