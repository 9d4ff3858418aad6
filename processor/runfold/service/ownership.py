"""Which partitions this worker may fold: leases in the store, and the check that the log is still the store's log.

Leases only balance; what keeps two workers from writing the same thing is the position compare of the store's
transaction. On taking a partition the store's last record is read again: a log that answers otherwise is another log.
"""

from __future__ import annotations

import asyncio
import os
import socket

from uuid_utils import uuid7

from runfold.fold.record import hash_of_record
from runfold.fold.rules import COMPATIBLE, FOLD_VERSION, Rules
from runfold.log.port import LogSource, RangeLost
from runfold.store.port import Lease, Store, StoreRefused
from runfold.telemetry import Logger


def new_owner() -> str:
    """A name for this worker that no other one has had: host, process and a part of a UUID."""
    return f"{socket.gethostname()}:{os.getpid()}:{str(uuid7())[-12:]}"


class Ownership:
    """Claims, renews and releases the partitions of one log in one store. ``leases`` are those held now."""

    def __init__(self, source: LogSource, store: Store, *, rules: Rules, lease: float, logger: Logger) -> None:
        self._source, self._store, self._rules = source, store, rules
        self._lease, self._logger = lease, logger
        self.owner = new_owner()
        self.leases: dict[int, Lease] = {}

    async def bind(self) -> None:
        """Tie the store to this log, or find that it belongs to it. Raises StoreRefused where it does not."""
        identity = await self._source.identity()
        await self._store.bind(
            cluster_id=identity.cluster_id,
            topic=identity.topic,
            partitions=await self._source.partitions(),
            fold_version=FOLD_VERSION,
            compatible=COMPATIBLE,
            settings_hash=self._rules.settings_hash,
        )

    async def claim(self) -> dict[int, Lease]:
        """Take all partitions and check each against the log. Raises StoreRefused or RangeLost where it cannot go on."""
        await self.bind()  # again, for the log may have been made anew under a living service
        partitions = range(await self._source.partitions())
        ranges = await self._source.ranges(partitions)
        begins = {which: ranges[which].begin for which in partitions}
        self.leases = await self._store.claim(self.owner, begins, lease=self._lease)
        for partition, lease in self.leases.items():
            held = ranges[partition]
            if lease.position < held.begin:
                raise RangeLost(partition=partition, wanted=lease.position, begin=held.begin)
            await self._check_last_record(partition, lease)
        self._logger.info(
            "partitions_taken",
            owner=self.owner,
            positions={which: kept.position for which, kept in self.leases.items()},
        )
        return self.leases

    async def keep(self) -> None:
        """Renew the leases until cancelled."""
        while True:
            await asyncio.sleep(self._lease / 3)
            kept = await self._store.renew(self.owner, self.leases, lease=self._lease)
            if lost := sorted(set(self.leases) - kept):
                self._logger.warning("leases_lost", partitions=lost)

    async def release(self) -> None:
        """Let go of all partitions, so that the next owner need not wait."""
        await self._store.release(self.owner, self.leases)
        self._logger.info("partitions_released", owner=self.owner)

    async def _check_last_record(self, partition: int, lease: Lease) -> None:
        if lease.last_offset is None or lease.last_hash is None:
            return
        record = await self._source.record_at(partition, lease.last_offset)
        begin = (await self._source.ranges([partition]))[partition].begin
        if record is None and lease.last_offset < begin:
            return  # retention has taken it, and its range is whole
        if record is None or hash_of_record(record) != lease.last_hash:
            found = "nothing" if record is None else "another record"
            raise StoreRefused(
                f"partition {partition}: at offset {lease.last_offset}, where the store folded its last record, the log "
                f"now has {found}: this is another log, or one made anew. Point RUNFOLD_LOG at the store's own log, or "
                "RUNFOLD_STORE at a new store"
            )
