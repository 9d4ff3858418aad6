"""Records that may kill whoever folds them: taken in hand one by one, found, and set aside.

See :mod:`runfold.store.claims` for what makes a record a suspect. What is set aside is a note keyed by its place in the log,
which every rebuild reads; the record is kept as a dead letter, and can be retried once its cause is mended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from runfold.fold.record import bytes_of
from runfold.log.clock import wall_clock
from runfold.service.fetching import Batch
from runfold.store.claims import killer, stalls
from runfold.store.notes import SET_ASIDE, set_aside_of
from runfold.store.port import Lease, Note, Store
from runfold.telemetry import Logger


class Killers:
    """``reach`` is how many offsets a batch may go over: so far behind the position a killer may be.

    ``set_aside`` holds per partition the offsets that are not to be folded, and why. ``wary`` says of a partition up to which
    offset its records are taken in hand one by one.
    """

    def __init__(self, store: Store, *, reach: int, logger: Logger) -> None:
        self._store, self._reach, self._logger = store, reach, logger
        self.set_aside: dict[int, dict[int, str]] = {}
        self.wary: dict[int, int] = {}

    async def look_at(self, leases: Mapping[int, Lease], *, ends: Mapping[int, int]) -> None:
        """Set killers aside, and begin to be wary of partitions where nobody got on. ``ends`` are the log's."""
        for which, lease in leases.items():
            history = lease.history
            if (offset := killer(history)) is not None:
                await self._set_aside(which, offset, deaths=history.deaths)
            elif history.suspect is not None:
                self._be_wary(which, lease.position, upto=history.suspect + 1)
            elif stalls(history):
                self._be_wary(which, lease.position, upto=min(lease.position + self._reach, ends[which]))
        self.set_aside = set_aside_of(await self._store.notes())

    def _be_wary(self, partition: int, position: int, *, upto: int) -> None:
        """Never less far than before: a killer that was not met yet is still ahead."""
        upto = max(upto, self.wary.get(partition, 0))
        if upto > position:
            self.wary[partition] = upto
            self._logger.warning("records_on_trial", partition=partition, begin=position, end=upto)

    async def _set_aside(self, partition: int, offset: int, *, deaths: int) -> None:
        reason = f"{deaths} processes ended while they had this record alone in hand"
        note = Note(partition=partition, offset=offset, kind=SET_ASIDE, reason=reason, noted_at=wall_clock())
        await self._store.add_note(note)
        self._logger.error("record_set_aside", partition=partition, offset=offset, deaths=deaths)

    def passed(self, positions: Mapping[int, int]) -> None:
        """These positions are committed."""
        for which, position in positions.items():
            if position >= self.wary.get(which, position + 1):
                del self.wary[which]

    def on_trial(self, part: Batch) -> tuple[int, int] | None:
        """The partition and offset of the one record in a part of :meth:`cut`, where it is to be taken in hand alone."""
        if part.size != 1:
            return None
        ((partition, (record,)),) = part.records.items()
        wary = record.offset < self.wary.get(partition, 0)
        return (partition, record.offset) if wary and record.offset not in self.set_aside.get(partition, {}) else None

    def cut(self, batch: Batch) -> Iterator[Batch]:
        """The batch in parts: what nobody is wary of, then one record after the other, then what lies behind those."""
        wary = {which: upto for which, upto in self.wary.items() if which in batch.records}
        if not wary:
            yield batch
            return
        if calm := batch.records.keys() - wary.keys():
            yield _part(batch, {which: (0, len(batch.records[which])) for which in sorted(calm)})
        for which, upto in wary.items():
            ahead = sum(record.offset < upto for record in batch.records[which])
            for place in range(ahead):
                yield _part(batch, {which: (place, place + 1)})
            if ahead < len(batch.records[which]):
                yield _part(batch, {which: (ahead, len(batch.records[which]))})


def _part(batch: Batch, places: Mapping[int, tuple[int, int]]) -> Batch:
    """Some of a batch's records: per partition those from one place up to another."""
    records = {which: batch.records[which][first:last] for which, (first, last) in places.items()}
    positions = {
        which: batch.positions[which] if last == len(batch.records[which]) else batch.records[which][last].offset
        for which, (_, last) in places.items()
    }
    taken = [record for of in records.values() for record in of]
    return batch._replace(
        records=records,
        positions=positions,
        size=len(taken),
        bytes=bytes_of(taken),
        newest=max(of[-1].timestamp for of in records.values()),
    )
