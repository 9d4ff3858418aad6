"""The watchdog's own small view of the log: its ends, what blocks them, and the age of what waits.

It has a source of its own, on its own thread, so that it sees the log move while the consumer's does not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from runfold.health.vitals import Standing, waiting
from runfold.log.port import HeldBack, LogError, LogSource
from runfold.log.waiting import first_waiting


class Oldest(NamedTuple):
    """The first record that waits at a position: its time of publishing in Unix milliseconds (-1: unknown)."""

    position: int
    timestamp: int


class LogView(NamedTuple):
    """What the log said when it was looked at; empty where it did not answer."""

    partitions: int | None = None
    ends: Mapping[int, int] = {}
    held_back: Mapping[int, HeldBack] = {}


class LogWatch:
    """Looks at the log. ``view`` is the last look's, ``silent_since`` (monotonic) when it last began not to answer."""

    def __init__(self, open_source: Callable[[], LogSource], *, timeout: float) -> None:
        self._open_source, self._timeout = open_source, timeout
        self._source: LogSource | None = None
        self.view = LogView()
        self.oldest: dict[int, Oldest] = {}
        self.silent_since: float | None = None

    async def look(self, owned: Mapping[int, Standing]) -> Exception | None:
        """Look once, for a bounded time. Returns what kept the log from answering, if anything did."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._look(owned)
        except (LogError, OSError) as error:  # TimeoutError is an OSError
            self.view = LogView()
            self.silent_since = self.silent_since or time.monotonic()
            if not isinstance(error, TimeoutError):
                await self.close()
            return error
        self.silent_since = None
        return None

    async def _look(self, owned: Mapping[int, Standing]) -> None:
        source = self._source
        if source is None:
            source = self._open_source()
            try:
                await source.start()
            except BaseException:
                with suppress(LogError, OSError):
                    await source.close()
                raise
            self._source = source
        which = list(owned)
        partitions = await source.partitions()
        ranges = await source.ranges(which)
        ends = {partition: held.end for partition, held in ranges.items()}
        held_back = await source.held_back(which)
        await self._look_at_oldest(source, owned, ends)
        self.view = LogView(partitions, ends, held_back)

    async def _look_at_oldest(self, source: LogSource, owned: Mapping[int, Standing], ends: dict[int, int]) -> None:
        """Where records wait, when the first of them was published; what is known already is not asked again.

        An end behind which there are only offsets without a record comes to be the position: nothing waits there.
        """
        oldest = {}
        for which, standing in owned.items():
            if not waiting(standing, ends[which]):
                continue
            known = self.oldest.get(which)
            if known is None or known.position != standing.position:
                record = await first_waiting(source, which, position=standing.position, end=ends[which])
                if record is None:
                    ends[which] = standing.position
                    continue
                known = Oldest(standing.position, record.timestamp)
            oldest[which] = known
        self.oldest = oldest

    async def close(self) -> None:
        """Let go of the log, within the bound."""
        source, self._source = self._source, None
        if source is not None:
            with suppress(LogError, OSError):
                async with asyncio.timeout(self._timeout):
                    await source.close()
