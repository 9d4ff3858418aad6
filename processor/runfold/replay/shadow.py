"""A shadow: a store beside the live one, made from the log alone by the fold that serves, as far as it is told to go.

Nobody else writes a shadow, so it needs no caution against others. One partition is in hand at a time, which is what bounds
its memory; while a batch is folded, the next one is read. What may change here is how fast it goes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final

from runfold.fold.admit import Decode, run_of_key
from runfold.fold.batch import PartitionFold
from runfold.fold.changes import Changes, PositionChange
from runfold.fold.record import Record, bytes_of
from runfold.fold.rules import Rules
from runfold.log.port import LogSource
from runfold.store.port import Lease, Store, StoreUnreachable

Progress = Callable[[int, int], None]
"""Told how many records are done, of how many; offsets stand for records."""

BATCH_RECORDS: Final = 40_000
_BATCH_BYTES: Final = 32_000_000
_OWNER: Final = "shadow"
_LEASE: Final = 60.0


class Shadow:
    """Folds ``source`` into ``store``, which is open, bound and its own. ``positions`` says how far it has come.

    ``set_aside`` holds per partition the offsets that people set aside; of ``key``, or of the
    ``chosen`` runs, if given, alone the records are folded.
    ``last_offsets`` are those of the last records. ``done`` counts the offsets that were folded, and ``moved`` changes with
    whatever moves on, here or where somebody else says so. ``compiled``: let the fold take its compiled short cut. Others may
    fold other partitions into the same store, in other processes; whoever claims a partition later takes it from who had it.
    """

    def __init__(
        self,
        source: LogSource,
        store: Store,
        *,
        rules: Rules,
        decode: Decode,
        set_aside: Mapping[int, Mapping[int, str]],
        key: bytes | None = None,
        chosen: Callable[[str], bool] | None = None,
        progress: Progress | None = None,
        compiled: bool = True,
    ) -> None:
        self.store = store
        self.positions: dict[int, int] = {}
        self.last_offsets: dict[int, int] = {}
        self._last_hashes: dict[int, bytes] = {}
        self._source, self._rules, self._decode, self._set_aside = source, rules, decode, set_aside
        self._key, self._chosen = key, chosen
        self._leases: dict[int, Lease] = {}
        self._progress, self._compiled = progress, compiled
        self.done = self._total = self.moved = 0

    async def begin(self, starts: Mapping[int, int]) -> None:
        """Begin these partitions where they are said to start; those that were begun before go on where they stand."""
        self.positions = {**starts, **self.positions}
        await self.claim()

    async def claim(self) -> None:
        """Take all partitions (again, after somebody else has written), and go on from where the store stands."""
        self._leases = await self.store.claim(_OWNER, self.positions, lease=_LEASE)
        for partition, lease in self._leases.items():
            self.positions[partition] = lease.position
            if lease.last_offset is not None and lease.last_hash is not None:
                self.last_offsets[partition], self._last_hashes[partition] = lease.last_offset, lease.last_hash

    async def release(self) -> None:
        """Let go of all partitions."""
        leases, self._leases = self._leases, {}
        if leases:  # else the store may be another's by now
            await self.store.release(_OWNER, leases)

    async def advance(self, ends: Mapping[int, int]) -> None:
        """Fold every record below the given ends. Raises what the log and the store raise."""
        self._total = self.done + sum(max(0, end - self.positions[which]) for which, end in ends.items())
        for partition, end in sorted(ends.items()):
            await self._advance_one(partition, end)

    async def apply(self, changes: Changes) -> None:
        """Write rows that were not folded; the positions of their partitions stay."""
        of_rows = {run.partition for run in changes.runs}
        of_events = {letter.partition for letter in changes.letters} | {entry.partition for entry in changes.journal}
        for partition in of_rows | of_events:
            at = self.positions[partition]
            changes.positions[partition] = self._move(partition, at)
        await self.store.apply(changes, self._leases)

    async def _advance_one(self, partition: int, end: int) -> None:
        fold = PartitionFold(
            partition,
            rules=self._rules,
            decode=self._decode,
            set_aside=self._set_aside.get(partition),
            compiled=self._compiled,
            to_come=end - self.positions[partition] if self._is_new(partition) else None,
        )
        read = self._source.read(partition, begin=self.positions[partition], end=end, key=self._key)
        try:
            async for records in _batches(read if self._chosen is None else _of_chosen(read, self._chosen)):
                await self._fold(fold, records)
        except StoreUnreachable as error:
            raise StoreUnreachable(
                f"{error}; partition {partition} had come to offset {self.positions[partition]}"
            ) from error
        if self.positions[partition] < end:  # no record there that a reader is given
            await self.store.apply(Changes(positions={partition: self._move(partition, end)}), self._leases)
            self._reached(partition, end)

    def _is_new(self, partition: int) -> bool:
        """Whether the store has no record of a partition yet."""
        return self.positions[partition] == self._leases[partition].first_offset

    def _move(self, partition: int, to: int) -> PositionChange:
        """A move over what is no record: the last one that was stays what the log is asked for when the store is served."""
        at = self.positions[partition]
        return PositionChange(at, to, self.last_offsets.get(partition, to - 1), self._last_hashes.get(partition, b""))

    async def _fold(self, fold: PartitionFold, records: Sequence[Record]) -> None:
        partition, changes = fold.partition, Changes()
        absent = fold.absent(records)
        if absent:
            rows = await self.store.load(partition, absent)
            fold.take_in((row.run_id, row.handle, row.body) for row in rows.values())
        last = records[-1].offset
        fold.fold(records, next_position=last + 1, expected=self.positions[partition], changes=changes)
        fold.settle(await self.store.apply(changes, self._leases))
        moved = changes.positions[partition]
        self.last_offsets[partition], self._last_hashes[partition] = last, moved.last_hash
        self._reached(partition, last + 1)

    def _reached(self, partition: int, position: int) -> None:
        self.moved += 1
        self.done += position - self.positions[partition]
        self.positions[partition] = position
        if self._progress is not None:
            self._progress(self.done, self._total)


async def _of_chosen(
    read: AsyncIterator[Sequence[Record]], chosen: Callable[[str], bool]
) -> AsyncIterator[Sequence[Record]]:
    """Those records whose key names a chosen run."""
    async for records in read:
        named = ((run_of_key(record.key), record) for record in records)
        yield [record for run_id, record in named if run_id is not None and chosen(run_id)]


async def _batches(read: AsyncIterator[Sequence[Record]]) -> AsyncIterator[Sequence[Record]]:
    """Records of one partition in sequences of a batch's size; one that is half a batch by itself is left as it is."""
    batch: list[Record] = []
    size = 0
    async for records in read:
        more = bytes_of(records)
        if not batch and (len(records) >= BATCH_RECORDS // 2 or more >= _BATCH_BYTES // 2):
            yield records
            continue
        batch += records
        size += more
        if len(batch) >= BATCH_RECORDS or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
