"""How long a service bears with a log or a store that fails, and how long it pauses between tries."""

from __future__ import annotations

import asyncio
from contextlib import suppress

LONGEST_PAUSE = 1.0
"""What is away may come back for moments only: a longer pause would sleep through them, again and again."""


class Patience:
    """``seconds`` of failing without one success in between are borne; a set ``stop`` ends every pause."""

    def __init__(self, seconds: float, stop: asyncio.Event) -> None:
        self._seconds, self._stop = seconds, stop
        self._failing_since: float | None = None

    async def bear(self, error: Exception) -> None:
        """Pause before the next try: not at all at first, then ever longer. Raises ``error`` when patience is at its end."""
        now = asyncio.get_running_loop().time()
        if self._failing_since is None:
            self._failing_since = now
        failing = now - self._failing_since
        if failing >= self._seconds:
            raise error
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), min(LONGEST_PAUSE, failing / 2, self._seconds - failing))

    def rewarded(self) -> None:
        """Something has succeeded: failures are counted from the next one on."""
        self._failing_since = None
