"""A value that is looked up now and then, however many ask for it, and not at all while nobody does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Generic, TypeVar

T = TypeVar("T")

KEPT_SECONDS: Final = 1.0
"""Seconds that a value is kept; where somebody asks, it is renewed when it is half as old."""


class Kept(Generic[T]):
    """What ``look`` found. Renewed behind the back of those who ask while it is young enough to be used.

    ``value`` is None before the first :meth:`renew`.
    """

    def __init__(self, look: Callable[[], Awaitable[T]], *, kept: float = KEPT_SECONDS) -> None:
        self.value: T | None = None
        self._kept = kept
        self._look = look
        self._at = float("-inf")
        self._looking: asyncio.Task[None] | None = None

    def young(self) -> bool:
        """Whether :meth:`renew` has nothing to do: asked with every request, so that most need not await it."""
        return time.monotonic() - self._at < self._kept / 2

    async def renew(self) -> None:
        """Have a value that is no older than it may be kept. Raises what looking raises."""
        age = time.monotonic() - self._at
        if age < self._kept / 2:
            return
        looking = self._begin()
        if age >= self._kept:
            await asyncio.shield(looking)

    async def renew_now(self, *, pause: float) -> None:
        """Have a value of a look that begins no earlier than now, ``pause`` seconds after the one before it at the soonest."""
        now = time.monotonic()
        while self._at < now:
            await asyncio.sleep(self._at + pause - time.monotonic())
            await asyncio.shield(self._begin())

    def _begin(self) -> asyncio.Task[None]:
        """The look that is under way, or a new one."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._renew())
            self._looking.add_done_callback(_seen)
        return self._looking

    async def _renew(self) -> None:
        at = time.monotonic()
        self.value, self._at = await self._look(), at

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await self._looking


def _seen(task: asyncio.Task[None]) -> None:
    """Where nobody waited, an error is told to the next who has to: it is not lost, and asyncio need not say so."""
    if not task.cancelled():
        task.exception()
