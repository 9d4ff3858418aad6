"""What of usage a store is asked to sum up, and what it answers."""

from __future__ import annotations

from typing import Any, NamedTuple

from msgspec import Struct

from runfold.fold.usage import BucketKey, Dimensions


class UsageRow(Struct, frozen=True, kw_only=True):
    """One bucket with its sums, in the order of :data:`runfold.fold.usage.SUMS`."""

    bucket: BucketKey
    sums: tuple[int, ...]


USAGE_GROUPS = (*Dimensions._fields, "status")
"""What usage can be summed by."""


class UsageQuery(Struct, frozen=True, kw_only=True):
    """What of usage to sum up. ``edges`` are Unix minutes, rising: part n is of the minutes from edge n to before edge n + 1.

    ``by`` names some of :data:`USAGE_GROUPS`; ``only`` the values of dimensions that count ("" is unknown).
    """

    edges: tuple[int, ...]
    by: tuple[str, ...] = ()
    only: dict[str, tuple[str, ...]] = {}


class UsageSum(NamedTuple):
    """Sums of one group in one part. ``group`` has the values of ``by``, in its order: text, or a status' number."""

    part: int
    group: tuple[Any, ...]
    sums: tuple[int, ...]
