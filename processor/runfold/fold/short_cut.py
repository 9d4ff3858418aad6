"""The compiled short cut of the fold (``_swift.pyx``), where it was built. Where it was not, all records go the simple way.

It takes many records in one call and folds those that are ordinary: from a run's body and its records' bytes straight to
the new body and row, without an object for each event. All others it leaves. The same log gives the same store, to the
byte, with it and without; property tests hold it to that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from runfold.fold.changes import Changes, RunChange
from runfold.fold.record import Record
from runfold.fold.rules import Rules

try:
    from runfold.fold import _swift
except ImportError:
    BUILT = False
else:
    BUILT = True

Held = tuple[int, bytes | None]
"""A run in hand: its row's handle and body."""

Runs = Mapping[bytes | None, Sequence[Record]]
"""Records by key, each key's in their order."""

Unsettled = tuple[bytes | None, RunChange]
"""A row that waits for its commit, and its run's key."""

Left = tuple[int, RunChange | None]
"""Of a run that the short cut left records of: how many it folded, and the row after them, which it has put nowhere."""


class ShortCut(Protocol):
    """Belongs to one partition's fold: it remembers what it has met, and is not to be used by two threads at a time."""

    def by_run(self, records: Sequence[Record]) -> Runs:
        """The records by their keys."""

    def fold(
        self,
        runs: Runs,
        held: dict[bytes | None, Held],
        changes: Changes,
        unsettled: list[Unsettled],
    ) -> tuple[int, dict[bytes | None, Left]]:
        """Fold each run's records, from the first on, up to one that is out of the ordinary.

        ``runs`` has the records by key; ``held`` the runs that have a row, and is brought up to date. New rows and what they
        book are added to ``changes``; rows that are new or have ended to ``unsettled`` as well. Returns how many records
        were folded, all of them applied, and what was left, by key.
        """


class Met(Protocol):
    """Remembers which runs were met, in little memory: it may take one for met that was not, but never the reverse."""

    def before(self, keys: list[bytes | None]) -> list[bytes | None]:
        """Those of the keys that may have been met before. All of them have been from now on."""


def short_cut(partition: int, rules: Rules) -> ShortCut | None:
    """A short cut for a partition, by these rules; None where it was not built."""
    return _swift.Swift(partition, rules) if BUILT else None


def nothing_met(records: int) -> Met | None:
    """What remembers the runs of so many records, and has met none yet; None where the short cut was not built."""
    return _swift.Met(records) if BUILT else None


def in_columns(
    offsets: Any, timestamps: Any, keys: Any, ends: Any, values: Any, *, names: list[bytes], count: int
) -> Sequence[Record] | None:
    """``count`` records that lie in columns, which the short cut reads there; for others each is made when it is asked for.

    Buffers as Arrow has them: ``offsets`` and ``timestamps`` of 64 bits, ``keys`` of 32, which are places in ``names``,
    ``ends`` of 32: where each value begins in ``values``, and one more, where the last ends. No record has headers, or is
    without key, value or timestamp. None where the short cut was not built. Raises ValueError where they do not fit together.
    """
    return _swift.Columns((offsets, timestamps, keys, ends, values), names, 0, count) if BUILT else None
