"""A value that is looked up now and then, however many ask for it, and not at all while nobody does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Generic, TypeVar

T = TypeVar("T")

KEPT_SECONDS: Final = 1.0
RENEWED_AFTER: Final = 0.5


class Kept(Generic[T]):
    """What ``look`` found. Renewed behind the back of those who ask while it is young enough to be used.

    ``value`` is None before the first :meth:`renew`.
    """

    def __init__(self, look: Callable[[], Awaitable[T]]) -> None:
        self.value: T | None = None
        self._look = look
        self._at = float("-inf")
        self._looking: asyncio.Task[None] | None = None

    def young(self) -> bool:
        """Whether :meth:`renew` has nothing to do: asked with every request, so that most need not await it."""
        return time.monotonic() - self._at < RENEWED_AFTER

    async def renew(self, *, oldest: float = KEPT_SECONDS) -> None:
        """Have a value that is no older than ``oldest`` seconds. Raises what looking raises."""
        age = time.monotonic() - self._at
        if age < min(oldest, max(RENEWED_AFTER, oldest / 2)):
            return
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._renew())
            self._looking.add_done_callback(_seen)
        if age >= oldest:
            await asyncio.shield(self._looking)

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
