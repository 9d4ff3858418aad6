"""Which partitions this worker may fold: leases in the store, and the check that the log is still the store's log.

Leases only balance; what keeps two workers from writing the same thing is the position compare of the store's
transaction. The last record folded is read again when partitions are taken, and on a timer: a log that answers otherwise
is another log, and folding on would spoil the store.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from typing import NamedTuple

from uuid_utils import uuid7

from runfold.fold.changes import PositionChange
from runfold.fold.record import hash_of_record
from runfold.fold.rules import COMPATIBLE, FOLD_VERSION, Rules
from runfold.log.port import LogSource, LogUnreachable, RangeLost
from runfold.service.observer import Observer
from runfold.store.port import Lease, Store, StoreRefused, StoreUnreachable
from runfold.telemetry import Logger


def new_owner() -> str:
    """A name for this worker that no other one has had: host, process and a part of a UUID."""
    return f"{socket.gethostname()}:{os.getpid()}:{str(uuid7())[-12:]}"


class _Folded(NamedTuple):
    """The last record folded of a partition: what the log has to answer with at that offset."""

    offset: int
    hash: bytes


class Ownership:
    """Claims, renews and releases the partitions of one log in one store.

    ``leases`` are those held now. ``lost`` is set when some of them are no longer held, or others may be had: what is in
    hand is worth nothing then, and ``claim`` has to be called again.
    """

    def __init__(
        self, source: LogSource, store: Store, *, rules: Rules, lease: float, logger: Logger, observer: Observer
    ) -> None:
        self._source, self._store, self._rules = source, store, rules
        self._lease, self._logger, self._observer = lease, logger, observer
        self._last: dict[int, _Folded] = {}
        self._wanted = 0
        self.owner = new_owner()
        self.leases: dict[int, Lease] = {}
        self.lost = asyncio.Event()

    async def claim(self) -> dict[int, Lease]:
        """Take all partitions that can be had, and check each against the log.

        Raises StoreRefused or RangeLost where it cannot go on, StoreUnreachable or LogUnreachable where it may later.
        """
        self._observer.partitions_wanted()
        self._wanted = await self._source.partitions()
        await self._bind()  # each time, for the log may have been made anew under a living service
        partitions = range(self._wanted)
        ranges = await self._source.ranges(partitions)
        begins = {which: ranges[which].begin for which in partitions}
        held = {known.partition: known.owner for known in await self._store.partitions()}
        self.leases = await self._store.claim(self.owner, begins, lease=self._lease)
        self.lost.clear()
        self._last.clear()
        for partition, lease in self.leases.items():
            begin = begins[partition]
            if lease.position < begin:
                raise RangeLost(partition=partition, wanted=lease.position, begin=begin)
            if lease.last_offset is not None and lease.last_hash is not None:
                self._last[partition] = _Folded(lease.last_offset, lease.last_hash)
        await self._check_log()
        self._tell_what_was_taken({which for which in self.leases if held.get(which) not in (None, self.owner)})
        return self.leases

    def folded(self, positions: Mapping[int, PositionChange]) -> None:
        """These positions are committed: their last records are what the log is asked for from now on."""
        for partition, moved in positions.items():
            self._last[partition] = _Folded(moved.last_offset, moved.last_hash)

    async def keep(self) -> None:
        """Renew the leases and look at the log again, until cancelled. Raises what waiting does not mend.

        A renewal that fails is told and tried again: leases only balance, and it is the consumer's commits that tell
        whether the store can still be written.
        """
        while True:
            await asyncio.sleep(self._lease / 3)
            try:
                await self._renew()
                await self._check_log()
            except (StoreUnreachable, LogUnreachable) as error:
                self._logger.warning("leases_not_renewed", reason=str(error))

    async def release(self) -> None:
        """Let go of all partitions, so that the next owner need not wait."""
        leases, self.leases = self.leases, {}
        if leases:
            await self._store.release(self.owner, leases)
            self._observer.partitions_released(leases)
            self._logger.info("partitions_released", owner=self.owner)

    async def _bind(self) -> None:
        """Tie the store to this log, or find that it belongs to it. Raises StoreRefused where it does not."""
        identity = await self._source.identity()
        await self._store.bind(
            cluster_id=identity.cluster_id,
            topic=identity.topic,
            partitions=self._wanted,
            fold_version=FOLD_VERSION,
            compatible=COMPATIBLE,
            settings_hash=self._rules.settings_hash,
        )

    def _tell_what_was_taken(self, taken_over: set[int]) -> None:
        positions = {which: held.position for which, held in self.leases.items()}
        self._observer.partitions_taken(positions, share=self._wanted, taken_over=taken_over)
        self._logger.info("partitions_taken", owner=self.owner, positions=positions, taken_over=sorted(taken_over))
        if len(self.leases) < self._wanted:
            elsewhere = sorted(set(range(self._wanted)) - set(self.leases))
            self._logger.warning("partitions_held_elsewhere", partitions=elsewhere)

    async def _renew(self) -> None:
        leases = self.leases
        kept = await self._store.renew(self.owner, leases, lease=self._lease)
        self._observer.leases_renewed()
        if self.leases is not leases:
            return  # claimed anew meanwhile: what was renewed is of the past
        if gone := sorted(set(leases) - kept):
            self._logger.warning("leases_lost", partitions=gone)
        if len(kept) < self._wanted:
            self.lost.set()

    async def _check_log(self) -> None:
        """Raises StoreRefused where the log no longer has what was folded from it."""
        for partition, folded in list(self._last.items()):
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
