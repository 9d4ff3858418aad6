"""The log as the API has it: opened when it is first needed, and again where that failed. Reading Runs never needs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from runfold.log.port import LogError, LogSource


class LogAccess:
    """Hands out one started source, which lives until :meth:`close`."""

    def __init__(self, open_source: Callable[[], LogSource]) -> None:
        self._open = open_source
        self._opening: asyncio.Task[LogSource] | None = None

    async def source(self) -> LogSource:
        """The started source. Raises LogError where there is none to be had now.

        Opening goes on where whoever asked is gone: so a log that answers slowly is open for the next one.
        """
        opening = self._opening
        if opening is None or (opening.done() and opening.exception() is not None):
            opening = self._opening = asyncio.create_task(self._start())
        return await asyncio.shield(opening)

    async def _start(self) -> LogSource:
        source = self._open()
        try:
            await source.start()
        except BaseException:
            await source.close()
            raise
        return source

    async def close(self) -> None:
        if self._opening is None:
            return
        if not self._opening.done():
            self._opening.cancel()
        with suppress(asyncio.CancelledError, LogError):
            await (await self._opening).close()
        self._opening = None
