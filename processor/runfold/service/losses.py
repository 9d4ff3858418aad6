"""What the log had lost before it was folded: an incident that is written down, and gone on behind only where people say so."""

from __future__ import annotations

from collections.abc import Mapping

from runfold.log.clock import wall_clock
from runfold.log.port import RangeLost
from runfold.store.port import Lease, LostRange, Store
from runfold.telemetry import Logger


class Losses:
    """``accept``: whether to go on behind what is lost (``--accept-loss``)."""

    def __init__(self, store: Store, *, accept: bool, logger: Logger) -> None:
        self._store, self._accept, self._logger = store, accept, logger

    async def accepted(self, leases: Mapping[int, Lease], begins: Mapping[int, int]) -> set[int]:
        """The partitions that now stand at the log's begin, in a new epoch: they have to be claimed again.

        Raises RangeLost where a partition stands below it and nobody accepts that; the store knows of it then.
        """
        lost = [
            LostRange(partition=which, begin=lease.position, end=begins[which], noticed_at=wall_clock())
            for which, lease in leases.items()
            if lease.position < begins[which]
        ]
        for each in lost:
            await self._store.note_loss(each)
        for each in lost:
            told = {"partition": each.partition, "begin": each.begin, "end": each.end}
            if not self._accept:
                self._logger.error("range_lost", **told)
                raise RangeLost(partition=each.partition, wanted=each.begin, begin=each.end)
            await self._store.accept_loss(each)
            self._logger.warning("loss_accepted", **told)
        return {each.partition for each in lost}
