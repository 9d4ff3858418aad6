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
from runfold.log.archive_manifest import Limits
from runfold.log.kafka_options import address_of
from runfold.log.port import LogRestorer, LogSink, LogSource
from runfold.log.publisher import Publisher
from runfold.log.sqlite import SqliteSink, SqliteSource
from runfold.log.sqlite_restore import SqliteRestorer
from runfold.log.sync_publisher import SyncPublisher
from runfold.log.whole import WholeLog
from runfold.store.memory import MemoryStore
from runfold.store.port import Store, StoreUnreachable
from runfold.store.shadows import Shadows
from runfold.store.sqlite import SqliteStore
from runfold.store.sqlite_lane import LoopLane
from runfold.store.sqlite_shadows import SqliteShadows

if TYPE_CHECKING:
    from runfold.log.archive import ArchiveSource
    from runfold.log.archive_writer import ArchiveWriter
    from runfold.log.kafka_topic import KafkaTopic


def _sqlite_store(url: str) -> Store:
    return SqliteStore(path_of("RUNFOLD_STORE", url))


def _memory_store(_url: str) -> Store:
    return MemoryStore()


def _postgres_store(url: str) -> Store:
    with _installed("RUNFOLD_STORE: PostgreSQL", "postgres"):
        # Imported here: its driver is an extra, and whoever is content with SQLite need not have it.
        from runfold.store.postgres import PostgresStore  # noqa: PLC0415 - see above
    return PostgresStore(url)


STORES: dict[str, Callable[[str], Store]] = {
    "sqlite": _sqlite_store,
    "postgresql": _postgres_store,
    "memory": _memory_store,
}
"""What opens the store of a URL, by its scheme. The one in memory is for tests: no setting names it."""


class LogAdapter(NamedTuple):
    """How a log's two sides are made, and what makes it of another one's records; they are not started yet."""

    open_source: Callable[[Settings], LogSource]
    open_sink: Callable[[Settings], LogSink]
    open_restorer: Callable[[Settings], LogRestorer]


def open_source(settings: Settings) -> LogSource:
    """A source that reads the log of RUNFOLD_LOG; not started yet."""
    return _log_of(settings).open_source(settings)


def open_whole_log(settings: Settings) -> LogSource:
    """As :func:`open_source`, with the archive of RUNFOLD_ARCHIVE, if it is set, for what the log has forgotten."""
    if not settings.archive:
        return open_source(settings)
    return WholeLog(_open_archive(archive_path(settings)), open_source(settings), where=archive_path(settings))


def open_sink(settings: Settings) -> LogSink:
    """A sink that writes the log of RUNFOLD_LOG, making it where it is an embedded one; not started yet."""
    return _log_of(settings).open_sink(settings)


def open_restorer(settings: Settings) -> LogRestorer:
    """What makes the log of RUNFOLD_LOG of another log's records; not started yet."""
    return _log_of(settings).open_restorer(settings)


def _log_of(settings: Settings) -> LogAdapter:
    return LOGS[settings.log.partition("://")[0]]


def _sqlite_source(settings: Settings) -> LogSource:
    return SqliteSource(path_of("RUNFOLD_LOG", settings.log))


def _sqlite_sink(settings: Settings) -> LogSink:
    return SqliteSink(path_of("RUNFOLD_LOG", settings.log), partitions=settings.partitions)


def _sqlite_restorer(settings: Settings) -> LogRestorer:
    return SqliteRestorer(path_of("RUNFOLD_LOG", settings.log))


def _archive_source(settings: Settings) -> LogSource:
    return _open_archive(path_of("RUNFOLD_LOG", settings.log))


def _no_archive_sink(settings: Settings) -> LogSink:
    raise ConfigError(
        f"RUNFOLD_LOG: nothing can be published into the archive {settings.log}; name the log that it was made from, or write "
        "it to a new log with `runfold replay restore`"
    )


def _no_archive_restorer(settings: Settings) -> LogRestorer:
    raise ConfigError(
        f"{settings.log} is an archive: copy the folder, or write a new archive with `runfold replay archive`, naming the old "
        "one in RUNFOLD_LOG"
    )


def _open_archive(path: Path) -> ArchiveSource:
    with _installed("RUNFOLD_ARCHIVE: an archive", "archive"):
        from runfold.log.archive import ArchiveSource  # noqa: PLC0415 - pyarrow is an extra
    return ArchiveSource(path)


def open_archive(settings: Settings) -> LogSource:
    """A source that reads the archive of RUNFOLD_ARCHIVE alone; not started yet."""
    return _open_archive(archive_path(settings))


def open_archive_writer(settings: Settings, limits: Limits) -> ArchiveWriter:
    """What writes the archive of RUNFOLD_ARCHIVE, and makes it where there is none."""
    path = archive_path(settings)
    with _installed("RUNFOLD_ARCHIVE: an archive", "archive"):
        from runfold.log.archive_writer import ArchiveWriter  # noqa: PLC0415 - pyarrow is an extra
    return ArchiveWriter(path, limits)


def archive_path(settings: Settings) -> Path:
    """The folder that RUNFOLD_ARCHIVE names, or RUNFOLD_LOG where that is an archive. Raises ConfigError."""
    if settings.archive:
        return path_of("RUNFOLD_ARCHIVE", settings.archive)
    if settings.log.startswith("archive:"):
        return path_of("RUNFOLD_LOG", settings.log)
    raise ConfigError(
        "RUNFOLD_ARCHIVE: no archive is named; say where it is, such as --archive archive:///runfold-archive"
    )


def _kafka_source(settings: Settings) -> LogSource:
    with _installed("RUNFOLD_LOG: Kafka", "kafka"):
        from runfold.log.kafka import KafkaSource  # noqa: PLC0415 - aiokafka is an extra
    return KafkaSource(address_of(settings.log), settings.kafka)


def _kafka_sink(settings: Settings) -> LogSink:
    with _installed("RUNFOLD_LOG: Kafka", "kafka"):
        from runfold.log.kafka_publish import KafkaSink  # noqa: PLC0415 - aiokafka is an extra
    return KafkaSink(address_of(settings.log), settings.kafka)


def _kafka_restorer(settings: Settings) -> LogRestorer:
    with _installed("RUNFOLD_LOG: Kafka", "kafka"):
        from runfold.log.kafka_restore import KafkaRestorer  # noqa: PLC0415 - aiokafka is an extra
    return KafkaRestorer(address_of(settings.log), settings.kafka)


def open_topic(settings: Settings) -> KafkaTopic:
    """The topic of RUNFOLD_LOG, to make or to check it; not started yet. Raises ConfigError where the log is no topic."""
    try:
        address = address_of(settings.log)
    except ValueError as error:
        raise ConfigError(f"RUNFOLD_LOG: {settings.log!r} is no topic; {error}") from error
    with _installed("RUNFOLD_LOG: Kafka", "kafka"):
        from runfold.log.kafka_topic import KafkaTopic  # noqa: PLC0415 - aiokafka is an extra
    return KafkaTopic(address, settings.kafka)


@contextmanager
def _installed(what: str, extra: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(f"{what} needs {error.name}: pip install 'runfold[{extra}]'") from error


LOGS = {
    "sqlite": LogAdapter(_sqlite_source, _sqlite_sink, _sqlite_restorer),
    "kafka": LogAdapter(_kafka_source, _kafka_sink, _kafka_restorer),
    "archive": LogAdapter(_archive_source, _no_archive_sink, _no_archive_restorer),
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


def _sqlite_shadows(url: str) -> Shadows:
    return SqliteShadows(path_of("RUNFOLD_STORE", url))


def _postgres_shadows(url: str) -> Shadows:
    with _installed("RUNFOLD_STORE: PostgreSQL", "postgres"):
        from runfold.store.postgres_shadows import PostgresShadows  # noqa: PLC0415 - its driver is an extra
    return PostgresShadows(url)


SHADOWS: dict[str, Callable[[str], Shadows]] = {"sqlite": _sqlite_shadows, "postgresql": _postgres_shadows}
"""What keeps stores beside the live one of a URL, by its scheme."""


def open_shadows(settings: Settings) -> Shadows:
    """The stores beside that of RUNFOLD_STORE, for a rebuild."""
    scheme = settings.store.partition("://")[0]
    return SHADOWS["postgresql" if scheme == "postgres" else scheme](settings.store)


def open_beside(settings: Settings, name: str) -> Store:
    """A store beside that of RUNFOLD_STORE, by its name; not opened yet."""
    return open_shadows(settings).opened(name)


def _make_folder_of(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnreachable(f"the store {path} (RUNFOLD_STORE): its folder cannot be made ({error})") from error


def _publishing(settings: Settings) -> dict[str, Any]:
    """What a publisher has to know so that readers with the same settings take all that it sends."""
    return {"largest_value": settings.rules.largest_value}


def path_of(variable: str, url: str) -> Path:
    """What a ``sqlite:///`` or ``archive:///`` URL names: three slashes for a relative path, four for an absolute one."""
    scheme, _, rest = url.partition("://")
    if scheme not in _PATHS or not rest.startswith("/") or len(rest) < 2:
        raise ConfigError(f"{variable}: {url!r}: {_PATHS.get(scheme, _PATHS['sqlite'])} is wanted")
    return Path(rest[1:])


_PATHS = {"sqlite": "sqlite:///FILE", "archive": "archive:///FOLDER"}
