"""The only place where an adapter is chosen: what the URLs of RUNFOLD_LOG and RUNFOLD_STORE stand for.

Contract tests read their lists of adapters from here, so that none can dodge them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from runfold.config import ConfigError, Settings
from runfold.log.port import LogSink, LogSource
from runfold.log.publisher import Publisher
from runfold.log.sqlite import SqliteSink, SqliteSource
from runfold.log.sync_publisher import SyncPublisher
from runfold.store.memory import MemoryStore
from runfold.store.port import Store, StoreUnreachable
from runfold.store.sqlite import SqliteStore


def _sqlite_store(url: str) -> Store:
    return SqliteStore(path_of("RUNFOLD_STORE", url))


def _memory_store(_url: str) -> Store:
    return MemoryStore()


def _postgres_store(url: str) -> Store:
    try:
        # Imported here: its driver is an extra, and whoever is content with SQLite need not have it.
        from runfold.store.postgres import PostgresStore  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        raise ConfigError(f"RUNFOLD_STORE: PostgreSQL needs {error.name}: pip install 'runfold[postgres]'") from error
    return PostgresStore(url)


STORES: dict[str, Callable[[str], Store]] = {
    "sqlite": _sqlite_store,
    "postgresql": _postgres_store,
    "memory": _memory_store,
}
"""What opens the store of a URL, by its scheme. The one in memory is for tests: no setting names it."""
LOGS = {"sqlite": (SqliteSource, SqliteSink)}


def open_source(settings: Settings) -> LogSource:
    """A source that reads the log of RUNFOLD_LOG; not started yet."""
    return SqliteSource(path_of("RUNFOLD_LOG", settings.log))


def open_sink(settings: Settings) -> LogSink:
    """A sink that writes the log of RUNFOLD_LOG, making it where it is an embedded one; not started yet."""
    return SqliteSink(path_of("RUNFOLD_LOG", settings.log), partitions=settings.partitions)


def open_publisher(settings: Settings, **options: Any) -> Publisher:
    """A publisher into the log of RUNFOLD_LOG, for ``async with``; ``options`` are those of :class:`Publisher`."""
    return Publisher(open_sink(settings), **_publishing(settings) | options)


def open_sync_publisher(settings: Settings, **options: Any) -> SyncPublisher:
    """As :func:`open_publisher`, for ``with``, from any thread."""
    return SyncPublisher(partial(open_sink, settings), **_publishing(settings) | options)


def open_store(settings: Settings, *, make_folder: bool = False) -> Store:
    """The store of RUNFOLD_STORE; not opened yet. ``make_folder``: that of an embedded one."""
    scheme = settings.store.partition("://")[0]
    if make_folder and scheme == "sqlite":
        _make_folder_of(path_of("RUNFOLD_STORE", settings.store))
    return STORES["postgresql" if scheme == "postgres" else scheme](settings.store)


def _make_folder_of(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnreachable(f"the store {path} (RUNFOLD_STORE): its folder cannot be made ({error})") from error


def _publishing(settings: Settings) -> dict[str, Any]:
    """What a publisher has to know so that readers with the same settings take all that it sends."""
    return {"largest_value": settings.rules.largest_value}


def path_of(variable: str, url: str) -> Path:
    """The file that a ``sqlite:///`` URL names: three slashes for a relative path, four for an absolute one."""
    scheme, _, rest = url.partition("://")
    if scheme != "sqlite" or not rest.startswith("/") or len(rest) < 2:
        raise ConfigError(f"{variable}: {url!r}: sqlite:///FILE is wanted")
    return Path(rest[1:])
