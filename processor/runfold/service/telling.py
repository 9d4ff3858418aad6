"""The canonical line: one a committed batch, with all that can be asked about it, and nothing out of an event's content."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from runfold.fold.changes import Changes
from runfold.service.fetching import Batch


def canonical_line(batch: Batch, changes: Changes, times: Sequence[float], *, lag: int | None) -> dict[str, Any]:
    """Its fields. ``times`` are those (seconds) before load, fold and commit, and after.

    ``lag`` is how many offsets of its partitions wait behind it, None where the log's ends are not known. ``age_ms`` is how
    long ago the newest record was published; None where its time is unknown.
    """
    load, fold, commit = (round((after - before) * 1000, 2) for before, after in pairwise(times))
    outcomes: Counter[str] = Counter()
    for counts in changes.tally.values():
        outcomes.update(counts)
    return {
        "records": batch.size,
        "bytes": batch.bytes,
        "partitions": sorted(batch.positions),
        "positions": [batch.positions[which] for which in sorted(batch.positions)],
        "runs": len(changes.runs),
        "usage_rows": len(changes.usage),
        "letters": len(changes.letters),
        **outcomes,
        "fetch_ms": round(batch.seconds * 1000, 2),
        "load_ms": load,
        "fold_ms": fold,
        "commit_ms": commit,
        "lag": lag,
        "age_ms": max(0, int(time.time() * 1000) - batch.newest) if batch.newest >= 0 else None,
    }
