"""Which of its rows a store in memory has in a list."""

from __future__ import annotations

from runfold.fold.changes import RunChange
from runfold.fold.outcome import Flag
from runfold.store.port import RunFilter, StoredRun
from runfold_schemas import RunStatus


def stored(row: RunChange) -> StoredRun:
    return StoredRun(partition=row.partition, run_id=row.run_id, handle=row.handle, body=row.body)


def wants(wanted: RunFilter, row: RunChange) -> bool:
    same = (
        (wanted.status, row.status),
        (wanted.open, not RunStatus(row.status).ended),
        (wanted.thread_id, row.thread_id),
        (wanted.model, row.dimensions.model),
        (wanted.assistant_id, row.dimensions.assistant_id),
        (wanted.incomplete, bool(row.flags & Flag.INCOMPLETE)),
        (wanted.missing, bool(row.flags & Flag.MISSING)),
        (wanted.flagged, bool(row.flags)),
    )
    place = (row.created_at, row.run_id)
    low, high = (wanted.after, wanted.before) if wanted.ascending else (wanted.before, wanted.after)
    between = (low is None or low < place) and (high is None or place < high)
    return between and all(given is None or given == value for given, value in same)
