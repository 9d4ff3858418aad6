"""What a batch of records comes to: everything that one store transaction writes. Plain data, no behaviour."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct, field

from runfold.fold.record import Headers
from runfold.fold.usage import BucketKey, Dimensions


class Letter(Struct, frozen=True, kw_only=True):
    """A dead letter: a record that was rejected, whole, and why. ``run_id`` is what its key names, if it names one."""

    partition: int
    offset: int
    timestamp: int
    reason: str
    detail: str
    run_id: str | None = None
    key: bytes | None = None
    value: bytes | None = None
    headers: Headers = ()


class JournalEntry(Struct, frozen=True, kw_only=True):
    """A difference that was booked after a run had become final: by which record, to which bucket, how much."""

    partition: int
    offset: int
    run_id: str
    timestamp: int
    bucket: BucketKey
    sums: tuple[int, ...]


class RunChange(NamedTuple):
    """A run's row as it is to be written. ``handle`` is 0 for a run the store does not have yet.

    All columns but the handle follow from ``body``; they stand beside it so that stores can look by them.
    ``created_at`` is in Unix seconds. ``flags`` is :class:`runfold.fold.outcome.Flag`. ``minute`` and ``final_timestamp``
    are None until the run has become final.
    """

    partition: int
    run_id: str
    handle: int
    thread_id: str
    status: int
    created_at: int
    flags: int
    dimensions: Dimensions
    minute: int | None
    final_timestamp: int | None
    body: bytes


class PositionChange(NamedTuple):
    """Where a partition's position moves: from ``expected`` to ``next``, and which record was the last one folded."""

    expected: int
    next: int
    last_offset: int
    last_hash: bytes


class Changes(Struct, kw_only=True):
    """One transaction's worth. ``usage`` maps a bucket to what is added to each of its sums; ``tally`` counts outcomes."""

    runs: list[RunChange] = field(default_factory=list)
    usage: dict[BucketKey, list[int]] = field(default_factory=dict)
    letters: list[Letter] = field(default_factory=list)
    journal: list[JournalEntry] = field(default_factory=list)
    positions: dict[int, PositionChange] = field(default_factory=dict)
    tally: dict[int, dict[str, int]] = field(default_factory=dict)
