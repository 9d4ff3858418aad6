"""Is the log still the one that was folded? Its last records folded are read again, and have to be what they were.

A log that answers otherwise is another log, and folding on would spoil the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from runfold.fold.changes import PositionChange
from runfold.fold.record import hash_of_record
from runfold.log.port import LogSource
from runfold.store.port import Lease, StoreRefused


class _Folded(NamedTuple):
    """The last record folded of a partition: what the log has to answer with at that offset."""

    offset: int
    hash: bytes


class LastRecords:
    """The last record folded of each partition that is held."""

    def __init__(self, source: LogSource) -> None:
        self._source = source
        self._last: dict[int, _Folded] = {}

    def expect(self, lease: Lease) -> None:
        """What the store has of a partition that was taken."""
        if lease.last_offset is not None and lease.last_hash:
            self._last[lease.partition] = _Folded(lease.last_offset, lease.last_hash)

    def folded(self, positions: Mapping[int, PositionChange]) -> None:
        """These positions are committed: their last records are what the log is asked for from now on."""
        for partition, moved in positions.items():
            self._last[partition] = _Folded(moved.last_offset, moved.last_hash)

    def forget(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            self._last.pop(partition, None)

    async def check(self, partitions: Iterable[int]) -> None:
        """Raises StoreRefused where the log no longer has what was folded from these partitions."""
        for partition in list(partitions):
            folded = self._last.get(partition)
            if folded is None:
                continue
            record = await self._source.record_at(partition, folded.offset)
            if record is not None and hash_of_record(record) == folded.hash:
                continue
            begin = (await self._source.ranges([partition]))[partition].begin
            if record is None and folded.offset < begin:
                continue  # retention has taken it, and what follows is whole
            found = "nothing" if record is None else "another record"
            raise StoreRefused(
                f"partition {partition}: at offset {folded.offset}, where the store folded its last record, the log now "
                f"has {found}: this is another log, or one made anew. Point RUNFOLD_LOG at the store's own log, or "
                "RUNFOLD_STORE at a new store"
            )
