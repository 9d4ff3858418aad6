"""The logs of the log contract: each made as its tests want it, with a clock that they set."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from runfold.log.archive import ArchiveSource
from runfold.log.archive_folder import ArchiveFolder
from runfold.log.archive_writer import ArchiveWriter
from runfold.log.kafka import KafkaSource
from runfold.log.kafka_options import Address, KafkaOptions
from runfold.log.kafka_publish import KafkaSink
from runfold.log.port import LogSink, LogSource
from runfold.log.sqlite import SqliteSink, SqliteSource
from runfold.log.whole import WholeLog
from runfold.replay.archiving import archive

PARTITIONS = 4
ALL = range(PARTITIONS)


class Factory:
    """Makes sources and sinks of one log; ``now`` is what its clock shows."""

    def __init__(self) -> None:
        self.now = 1_760_000_000_000

    def clock(self) -> int:
        return self.now


class SqliteFactory(Factory):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def sink(self) -> LogSink:
        return SqliteSink(self.path, partitions=PARTITIONS, clock=self.clock)

    def source(self) -> LogSource:
        return SqliteSource(self.path)


class KafkaFactory(Factory):
    def __init__(self, address: Address) -> None:
        super().__init__()
        self.address = address

    def sink(self) -> LogSink:
        return KafkaSink(self.address, KafkaOptions(), clock=self.clock)

    def source(self) -> LogSource:
        return KafkaSource(self.address, KafkaOptions())


class ArchiveFactory(SqliteFactory):
    """The archive of an embedded log: what is appended there is archived at once, and read from the archive alone."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.folder = path.with_suffix(".archive")
        self.writing = asyncio.Lock()

    def sink(self) -> LogSink:
        return ArchivedSink(self)

    def source(self) -> LogSource:
        return ArchiveSource(self.folder)

    async def archive(self) -> None:
        source, writer = SqliteSource(self.path), ArchiveWriter(self.folder)
        await source.start()
        try:
            async with self.writing:
                with writer.lock():
                    async for _ in archive(source, writer):
                        pass
        finally:
            await source.close()


class WholeFactory(ArchiveFactory):
    """An embedded log that keeps each partition's last record alone, with its archive behind it."""

    def source(self) -> LogSource:
        return WholeLog(super().source(), SqliteSource(self.path), where=self.folder)

    async def archive(self) -> None:
        await super().archive()
        ends = ArchiveFolder(self.folder).load().ranges()
        with closing(sqlite3.connect(self.path)) as file, file:
            for which in ALL:
                file.execute(f"DELETE FROM partition_{which} WHERE offset < ?", (ends[which].end - 1,))


class ArchivedSink(SqliteSink):
    """Nothing can be published into an archive: this one publishes into the log that it is made from."""

    def __init__(self, factory: ArchiveFactory) -> None:
        super().__init__(factory.path, partitions=PARTITIONS, clock=factory.clock)
        self._factory = factory

    async def start(self) -> None:
        await super().start()
        await self._factory.archive()

    async def append(self, messages):
        places = await super().append(messages)
        await self._factory.archive()
        return places
