"""The fold of a batch both ways, with the compiled short cut and without, for tests that compare them.

Where the extension was not built such a comparison would compare the simple fold with itself: those tests are skipped, and
fail where ``CI=true``.
"""

from __future__ import annotations

import os
from random import Random
from typing import Any

import pytest

from runfold.fold.batch import PartitionFold
from runfold.fold.changes import Changes
from runfold.fold.record import StoredRecord
from runfold.fold.rules import DEFAULT_RULES, Rules
from runfold.fold.short_cut import BUILT
from runfold_schemas.testing import broken

needs_compiled = pytest.mark.skipif(
    not BUILT and os.environ.get("CI") != "true", reason="the compiled fold was not built: no C compiler, no headers"
)

Bodies = dict[bytes, bytes]


def outcome(records: list[StoredRecord], bodies: Bodies, *, compiled: bool, rules: Rules = DEFAULT_RULES) -> Any:
    """All that a batch comes to, or the error that it raises; ``bodies`` are the rows of runs by key, as a store has them."""
    fold = PartitionFold(0, rules=rules, compiled=compiled)
    fold.take_in((key.decode(), place, body) for place, (key, body) in enumerate(bodies.items(), 1))
    changes = Changes()
    try:
        fold.fold(records, next_position=len(records), expected=0, changes=changes)
    except Exception as error:  # noqa: BLE001 - damaged bodies: what the simple way raises the short cut has to leave to it
        return type(error).__name__
    rows = sorted((row.run_id, row) for row in changes.runs)
    usage = {bucket: sums for bucket, sums in changes.usage.items() if any(sums)}
    return rows, usage, changes.letters, changes.journal, changes.positions, changes.tally


def nearly_the_same(value: bytes, rng: Random) -> bytes:
    """Bytes of which one or two are other ones, nearly always still of the same shape; now and then more is broken."""
    if not value or rng.random() < 0.2:
        return broken(value, rng)
    changed = bytearray(value)
    for _ in range(rng.choice((1, 1, 2))):
        place = rng.randrange(len(changed))
        changed[place] = rng.choice((changed[place] ^ 1 << rng.randrange(8), rng.randrange(256)))
    return bytes(changed)
