"""A run whose events lie on two partitions has a row in each: which of them reads answer with. Pure, for every store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

from runfold.fold.outcome import Flag


class Placed(Protocol):
    """A run's row, as far as the choice needs it."""

    @property
    def partition(self) -> int: ...
    @property
    def run_id(self) -> str: ...
    @property
    def flags(self) -> int: ...


R = TypeVar("R", bound=Placed)


def chosen(rows: Iterable[R]) -> dict[str, R]:
    """The row that speaks for each run: the one that has ``created``; where both have it or neither, the lower partition."""
    best: dict[str, R] = {}
    for row in rows:
        rival = best.get(row.run_id)
        if rival is None or _rank(row) < _rank(rival):
            best[row.run_id] = row
    return best


def _rank(row: Placed) -> tuple[int, int]:
    return row.flags & Flag.INCOMPLETE, row.partition
