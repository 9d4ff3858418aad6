"""The short way to publish: a publisher into the log of a URL, or of the settings, for applications.

What an application needs to know stands in one line: ``async with runfold.open_publisher() as publisher``, or ``with
runfold.open_sync_publisher() as publisher`` where there is no asyncio.
"""

from __future__ import annotations

from typing import Any

from runfold import wiring
from runfold.config import load_settings
from runfold.log.publisher import Publisher
from runfold.log.sync_publisher import SyncPublisher


def open_publisher(url: str | None = None, *, source: str = "runfold", **options: Any) -> Publisher:
    """A publisher for ``async with``, into the log at ``url``, else of RUNFOLD_LOG, else of the data folder.

    ``source`` (1 to 40 characters) names who publishes; ``options`` are those of :class:`Publisher`. Raises ConfigError.
    """
    return wiring.open_publisher(load_settings({"log": url}), source=source, **options)


def open_sync_publisher(url: str | None = None, *, source: str = "runfold", **options: Any) -> SyncPublisher:
    """As :func:`open_publisher`, for ``with``, from any thread."""
    return wiring.open_sync_publisher(load_settings({"log": url}), source=source, **options)
