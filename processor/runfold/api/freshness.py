"""How fresh an answer is: up to where the log is folded, how far behind that is, and what is known to be wanting.

Looked up at most once a second (:mod:`runfold.api.kept`). Positions are read before an answer's own data, so the answer holds
at least what they say.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from runfold.api.auth import Caller
from runfold.api.kept import Kept
from runfold.api.log_access import LogAccess
from runfold.log.port import LogError, LogSource
from runfold.log.waiting import first_waiting
from runfold.store.port import PartitionStatus, Store

LOG_SECONDS: Final = 0.5
"""So long the log may take to tell its ends: whoever asks for a Run waits for it."""

LOG_PAUSE: Final = 5.0
"""So long a log that did not tell is left alone; until then the lag is unknown."""

COUNTING_SECONDS: Final = 0.1
"""So long a look waits for what is counted; until then it tells what was counted before."""

_PAUSE_PER_SECOND: Final = 20

Header = tuple[bytes, bytes]


class Freshness(Struct, frozen=True, kw_only=True):
    """``position`` maps a partition to the next offset to be folded; ``lag`` is in offsets.

    ``incomplete`` counts runs whose created has not come, ``missing`` runs of which a numbered event has not, ``rejected``
    dead letters, ``without_usage`` runs that ended without telling what they used. What cannot be told is null: the lag
    while the log is out of reach, the counts for a key that is confined to a project.
    """

    position: dict[str, int]
    lag: int | None
    lag_seconds: float | None
    incomplete: int | None
    missing: int | None
    rejected: int | None
    without_usage: int | None

    def headers(self) -> list[Header]:
        told = {
            "position": ",".join(f"{partition}:{offset}" for partition, offset in self.position.items()),
            "lag": self.lag,
            "lag-seconds": self.lag_seconds,
            "incomplete": self.incomplete,
            "missing": self.missing,
            "rejected": self.rejected,
            "without-usage": self.without_usage,
        }
        return [
            (f"x-runfold-{name}".encode(), str(value).encode()) for name, value in told.items() if value is not None
        ]


class Look(Struct, frozen=True, kw_only=True):
    """One look, as each kind of caller is told it, with the headers that tell it."""

    whole: Freshness
    confined: Freshness
    whole_headers: Sequence[Header]
    confined_headers: Sequence[Header]


class Counted(Struct, frozen=True, kw_only=True):
    """What is known to be wanting, as :class:`Freshness` has it."""

    incomplete: int
    missing: int
    rejected: int


class Counting:
    """Counts what is wanting. That costs the more the more there is: where it takes long, it is done now and then."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._last: Counted | None = None
        self._counting: asyncio.Task[Counted] | None = None
        self._due = float("-inf")

    async def count(self) -> Counted:
        """The counts of now, or those of before where counting takes too long or has just taken long. Raises StoreError."""
        if self._counting is None:
            if self._last is not None and time.monotonic() < self._due:
                return self._last
            self._counting = asyncio.create_task(self._count())
        await asyncio.wait((self._counting,), timeout=None if self._last is None else COUNTING_SECONDS)
        if self._counting.done():
            counting, self._counting = self._counting, None
            self._last = counting.result()
        assert self._last is not None
        return self._last

    async def _count(self) -> Counted:
        begun = time.monotonic()
        flagged, letters = await self._store.count_flagged(), await self._store.count_letters()
        ended = time.monotonic()
        if ended - begun > COUNTING_SECONDS:
            self._due = ended + (ended - begun) * _PAUSE_PER_SECOND
        return Counted(
            incomplete=flagged["without_created"], missing=flagged["missing"], rejected=sum(letters.values())
        )

    async def close(self) -> None:
        if self._counting is not None:
            self._counting.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await self._counting


class FreshnessCache(Kept[Look]):
    """The newest look. ``store`` is open."""

    def __init__(self, store: Store, log: LogAccess) -> None:
        super().__init__(self._look_up)
        self._store, self._log = store, log
        self._counting = Counting(store)
        self._log_again = float("-inf")

    def told_to(self, caller: Caller) -> Freshness | None:
        """The look for an answer's body; None before the first."""
        if self.value is None:
            return None
        return self.value.whole if caller.project_id is None else self.value.confined

    def headers_for(self, caller: Caller) -> Sequence[Header]:
        """The look for an answer's headers; nothing for who has not told who it is."""
        if self.value is None or not caller.scopes:
            return ()
        return self.value.whole_headers if caller.project_id is None else self.value.confined_headers

    async def _look_up(self) -> Look:
        partitions = await self._store.partitions()
        lag, seconds = await self._lag(partitions)
        counts = await self._counting.count()
        whole = Freshness(
            position={str(found.partition): found.position for found in partitions},
            lag=lag,
            lag_seconds=seconds,
            incomplete=counts.incomplete,
            missing=counts.missing,
            rejected=counts.rejected,
            without_usage=sum(found.without_usage for found in partitions),
        )
        confined = replace(whole, incomplete=None, missing=None, rejected=None, without_usage=None)
        return Look(whole=whole, confined=confined, whole_headers=whole.headers(), confined_headers=confined.headers())

    async def close(self) -> None:
        await super().close()
        await self._counting.close()

    async def _lag(self, partitions: list[PartitionStatus]) -> tuple[int | None, float | None]:
        if time.monotonic() < self._log_again:
            return None, None
        try:
            async with asyncio.timeout(LOG_SECONDS):
                return await _lag_of(await self._log.source(), partitions)
        except (LogError, TimeoutError):
            self._log_again = time.monotonic() + LOG_PAUSE
            return None, None


async def _lag_of(source: LogSource, partitions: list[PartitionStatus]) -> tuple[int, float]:
    """Offsets that are not folded, and for how many seconds the oldest of their records has waited, by this machine's clock."""
    positions = {found.partition: found.position for found in partitions}
    lag, oldest = 0, None
    for partition, held in (await source.ranges(range(await source.partitions()))).items():
        position = max(positions.get(partition, held.begin), held.begin)
        waiting = await first_waiting(source, partition, position=position, end=held.end)
        if waiting is not None:
            lag += held.end - position
            oldest = waiting.timestamp if oldest is None else min(oldest, waiting.timestamp)
    return lag, 0.0 if oldest is None else max(0.0, round(time.time() - oldest / 1000, 3))
