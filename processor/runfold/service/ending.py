"""Whether everything is folded that the log had at some moment: by us as far as we read, by others as the store says."""

from __future__ import annotations

from collections.abc import Mapping

from runfold.log.port import LogSource
from runfold.log.waiting import first_waiting
from runfold.store.port import Store


class Ending:
    """``ends`` are the offsets up to which each partition has to be folded."""

    def __init__(self, source: LogSource, store: Store, ends: Mapping[int, int]) -> None:
        self._source, self._store, self._ends = source, store, ends

    async def is_reached(self, ours: Mapping[int, int]) -> bool:
        """``ours`` says of the partitions that this worker holds how far they are folded."""
        short = {which for which, end in self._ends.items() if ours.get(which, -1) < end}
        if not short or short & ours.keys():
            return not short
        seats = (await self._store.crew()).seats
        for which in sorted(short):
            seat = seats.get(which)
            if seat is None or await first_waiting(self._source, which, position=seat.position, end=self._ends[which]):
                return False
        return True
