"""Writing a SQLite log from an archive: every record where it stood, and stamped as it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runfold.fold.record import Record
from runfold.log.sqlite import SqliteSink


class SqliteRestorer:
    """Makes a SQLite log of another one's records; see :class:`runfold.log.port.LogRestorer`."""

    keeps_offsets = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sink: SqliteSink

    async def prepare(self, *, partitions: int, oldest: int) -> list[str]:  # noqa: ARG002 - the port's
        """As the port says: nothing is ever deleted there, so all that counts is the number of partitions."""
        self._sink = SqliteSink(self._path, partitions=partitions)
        return []

    async def start(self) -> None:
        await self._sink.start()

    async def close(self) -> None:
        await self._sink.close()

    async def write(self, partition: int, records: Sequence[Record]) -> None:
        await self._sink.append_stamped(partition, records)
