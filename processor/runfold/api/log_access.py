"""The log as the API has it: opened when it is first needed, and again where that failed. Reading Runs never needs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from runfold.log.port import LogSource


class LogAccess:
    """Hands out one started source, which lives until :meth:`close`."""

    def __init__(self, open_source: Callable[[], LogSource]) -> None:
        self._open, self._opening = open_source, asyncio.Lock()
        self._source: LogSource | None = None

    async def source(self) -> LogSource:
        """The started source. Raises LogError where there is none to be had now."""
        if self._source is None:
            async with self._opening:
                if self._source is None:
                    source = self._open()
                    try:
                        await source.start()
                    except BaseException:
                        await source.close()
                        raise
                    self._source = source
        return self._source

    async def close(self) -> None:
        if self._source is not None:
            await self._source.close()
            self._source = None
