"""The only place where an adapter is chosen: what the URLs of RUNFOLD_LOG and RUNFOLD_STORE stand for.

Contract tests read their lists of adapters from here, so that none can dodge them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from runfold.config import ConfigError, Settings
from runfold.log.kafka_options import address_of
from runfold.log.port import LogSink, LogSource
from runfold.log.publisher import Publisher
from runfold.log.sqlite import SqliteSink, SqliteSource
from runfold.log.sync_publisher import SyncPublisher
from runfold.store.memory import MemoryStore
from runfold.store.port import Store, StoreUnreachable
from runfold.store.sqlite import SqliteStore
from runfold.store.sqlite_connection import LoopLane

if TYPE_CHECKING:
    from runfold.log.kafka_topic import KafkaTopic


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


class LogAdapter(NamedTuple):
    """How a log's two sides are made; they are not started yet."""

    open_source: Callable[[Settings], LogSource]
    open_sink: Callable[[Settings], LogSink]


def open_source(settings: Settings) -> LogSource:
    """A source that reads the log of RUNFOLD_LOG; not started yet."""
    return _log_of(settings).open_source(settings)


def open_sink(settings: Settings) -> LogSink:
    """A sink that writes the log of RUNFOLD_LOG, making it where it is an embedded one; not started yet."""
    return _log_of(settings).open_sink(settings)


def _log_of(settings: Settings) -> LogAdapter:
    return LOGS[settings.log.partition("://")[0]]


def _sqlite_source(settings: Settings) -> LogSource:
    return SqliteSource(path_of("RUNFOLD_LOG", settings.log))


def _sqlite_sink(settings: Settings) -> LogSink:
    return SqliteSink(path_of("RUNFOLD_LOG", settings.log), partitions=settings.partitions)


def _kafka_source(settings: Settings) -> LogSource:
    with _kafka_installed():
        from runfold.log.kafka import KafkaSource  # noqa: PLC0415 - aiokafka is an extra
    return KafkaSource(address_of(settings.log), settings.kafka)


def _kafka_sink(settings: Settings) -> LogSink:
    with _kafka_installed():
        from runfold.log.kafka_publish import KafkaSink  # noqa: PLC0415 - aiokafka is an extra
    return KafkaSink(address_of(settings.log), settings.kafka)


def open_topic(settings: Settings) -> KafkaTopic:
    """The topic of RUNFOLD_LOG, to make or to check it; not started yet. Raises ConfigError where the log is no topic."""
    try:
        address = address_of(settings.log)
    except ValueError as error:
        raise ConfigError(f"RUNFOLD_LOG: {settings.log!r} is no topic; {error}") from error
    with _kafka_installed():
        from runfold.log.kafka_topic import KafkaTopic  # noqa: PLC0415 - aiokafka is an extra
    return KafkaTopic(address, settings.kafka)


@contextmanager
def _kafka_installed() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(f"RUNFOLD_LOG: Kafka needs {error.name}: pip install 'runfold[kafka]'") from error


LOGS = {
    "sqlite": LogAdapter(_sqlite_source, _sqlite_sink),
    "kafka": LogAdapter(_kafka_source, _kafka_sink),
}


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


def open_answering_store(settings: Settings) -> Store:
    """As :func:`open_store`, for a server that reads: what is found by a key in a file is looked up on its event loop."""
    if settings.store.startswith("sqlite:"):
        return SqliteStore(path_of("RUNFOLD_STORE", settings.store), glance=LoopLane)
    return open_store(settings)


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
