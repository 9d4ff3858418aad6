"""Usage summed from rows of minutes, for whoever has them in hand: what a store's own sums have to be equal to."""

from __future__ import annotations

import operator
from bisect import bisect_right
from collections.abc import Iterable
from typing import Any

from runfold.fold.usage import BucketKey
from runfold.store.usage_query import UsageQuery, UsageRow, UsageSum


def summed(rows: Iterable[UsageRow], wanted: UsageQuery) -> list[UsageSum]:
    """Sum rows of minutes as :meth:`runfold.store.port.Store.sum_usage` does."""
    sums: dict[tuple[int, tuple[Any, ...]], list[int]] = {}
    for row in rows:
        part = bisect_right(wanted.edges, row.bucket.minute) - 1
        if 0 <= part < len(wanted.edges) - 1 and _counts(row.bucket, wanted):
            found = sums.setdefault((part, tuple(_value(row.bucket, name) for name in wanted.by)), [0] * len(row.sums))
            found[:] = map(operator.add, found, row.sums)
    return ordered(UsageSum(part, group, tuple(found)) for (part, group), found in sums.items())


def ordered(found: Iterable[UsageSum]) -> list[UsageSum]:
    """By part and group; sums of zeros left out."""
    return sorted(total for total in found if any(total.sums))


def _counts(bucket: BucketKey, wanted: UsageQuery) -> bool:
    return all(getattr(bucket.dimensions, name) in values for name, values in wanted.only.items())


def _value(bucket: BucketKey, name: str) -> Any:
    return bucket.status if name == "status" else getattr(bucket.dimensions, name)
