"""The way from HTTP into the log: one publisher for each process that answers, opened at the first event.

What waits for the log is bounded: where there is no room, the caller is told to come back, rather than kept waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from runfold.api.errors import TooManyRequests
from runfold.log.port import Message, Place
from runfold.log.publisher import Publisher


class Intake:
    """Publishes records that are checked already. ``open_publisher`` makes the publisher; it is not entered yet."""

    def __init__(self, open_publisher: Callable[[], Publisher]) -> None:
        self._open, self._opening = open_publisher, asyncio.Lock()
        self._publisher: Publisher | None = None

    async def send(self, messages: Sequence[Message]) -> list[Place]:
        """Append the records, in order; returns where they stand once the log has them durably.

        Raises TooManyRequests where too much waits already (nothing was sent), LogError where the log does not take them:
        then their fate is unknown.
        """
        publisher = await self._opened()
        if not publisher.has_room():
            raise TooManyRequests(
                "The log is behind: too many events wait for it. Nothing was sent; try again.",
                code="log_behind",
                headers={"retry-after": "1"},
            )
        return await publisher.publish_messages(messages)

    async def close(self) -> None:
        """Send what waits. Raises LogUnreachable where that cannot be done."""
        if self._publisher is not None:
            publisher, self._publisher = self._publisher, None
            await publisher.close()

    async def _opened(self) -> Publisher:
        async with self._opening:
            if self._publisher is None:
                self._publisher = await self._open().__aenter__()
            return self._publisher
