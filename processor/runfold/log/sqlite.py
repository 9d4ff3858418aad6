"""The log in one SQLite file, for one machine: any number of processes append, any number follow.

One table per partition, appended at its right edge. Blocking work runs on a thread of the object's own, one whole
transaction a call: a call that is cancelled leaves nothing half done and no read open that would hold the WAL. Each side
knows the file it opened, and refuses to go on when the path names another.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from runfold.fold.record import Record
from runfold.log import sqlite_file, sqlite_read
from runfold.log.bell import Follower, Ringer
from runfold.log.clock import wall_clock
from runfold.log.partitioner import key_hash
from runfold.log.port import HeldBack, LogError, LogIdentity, Message, Place, Range, RangeLost
from runfold.log.sqlite_file import LogFile
from runfold.sqlite_turns import TURN

T = TypeVar("T")

_READ_RECORDS = 2_000
_READ_BYTES = 4_000_000

_encode_headers = msgspec.msgpack.Encoder().encode


class _OpenFile:
    """A connection and the one thread that may touch it."""

    def __init__(self, path: Path, connect: Callable[[Path], sqlite3.Connection]) -> None:
        self._path, self._connect = path, connect
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="runfold-log")
        self._connection: sqlite3.Connection | None = None
        self._closed = False
        self.file: LogFile

    async def open(self) -> None:
        await self.call(self._open)

    def _open(self) -> None:
        if self._connection is None:
            with sqlite_file.told_to_a_person(self._path):
                connection = self._connect(self._path)
                try:
                    self.file = sqlite_file.recognise(connection, self._path)
                except BaseException:
                    connection.close()
                    raise
            self._connection = connection

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do one transaction's work; when cancelled, it is done or not done, never half."""
        return await self.call(lambda: self._work(work))

    def _work(self, work: Callable[[sqlite3.Connection], T]) -> T:
        assert self._connection is not None, "start() comes first"
        with sqlite_file.told_to_a_person(self._path):
            result = work(self._connection)
            sqlite_file.check_same_file(self._path, self.file)
            return result

    async def call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            await asyncio.shield(self.call(self._close))
        finally:
            self._thread.shutdown(wait=False)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class SqliteSource:
    """Reads a SQLite log; see :class:`runfold.log.port.LogSource`. Raises LogMissing at start where there is no file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened = _OpenFile(path, sqlite_file.open_for_reading)
        self._follower = Follower(path)
        self._positions: dict[int, int] = {}
        self._turn = 0

    async def start(self) -> None:
        await self._opened.open()
        self._follower.open()

    async def close(self) -> None:
        self._follower.close()
        await self._opened.close()

    async def identity(self) -> LogIdentity:
        """Which log stands at the path now, which need not be the one that was opened."""

        def read_afresh() -> LogIdentity:
            with sqlite_file.told_to_a_person(self._path):
                connection = sqlite_file.open_for_reading(self._path)
                try:
                    return sqlite_file.recognise(connection, self._path).identity
                finally:
                    connection.close()

        return await self._opened.call(read_afresh)

    async def partitions(self) -> int:
        return self._opened.file.partitions

    async def ranges(self, partitions: Sequence[int]) -> dict[int, Range]:
        return await self._opened.run(lambda file: {which: sqlite_read.range_of(file, which) for which in partitions})

    async def held_back(self, partitions: Sequence[int]) -> dict[int, HeldBack]:  # noqa: ARG002 - the port's
        """None: an append is whole or not there."""
        return {}

    async def offsets_for_time(self, partitions: Sequence[int], time: int) -> dict[int, int]:
        return await self._opened.run(
            lambda file: {which: sqlite_read.offset_for_time(file, which, time) for which in partitions}
        )

    async def record_at(self, partition: int, offset: int) -> Record | None:
        limit = sqlite_read.Limit(records=1, size=0)
        try:
            found = await self._opened.run(
                lambda file: sqlite_read.records(file, partition, begin=offset, end=offset + 1, limit=limit)
            )
        except RangeLost:
            return None
        return found[0] if found else None

    def assign(self, positions: Mapping[int, int]) -> None:
        self._positions = dict(positions)

    def position(self, partition: int) -> int:
        return self._positions[partition]

    def tell_progress(self, positions: Mapping[int, int]) -> None:
        """Nobody to tell: no tool but ours reads this log."""

    async def fetch(self, *, most_records: int, most_bytes: int, wait: float) -> dict[int, list[Record]]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        while True:
            self._follower.disarm()  # before looking: what is rung for from here on is looked for again
            asked = self._in_turn()
            limit = sqlite_read.Limit(records=most_records, size=most_bytes)
            found = await self._opened.run(partial(_batch_in_turn, positions=asked, limit=limit))
            if got := self._advance(asked, found):
                return got
            if (left := deadline - loop.time()) <= 0:
                return {}
            await self._follower.wait(left)

    def _in_turn(self) -> dict[int, int]:
        """The positions, another partition first each time, so that none can starve the others."""
        order = list(self._positions.items())
        self._turn = (self._turn + 1) % (len(order) or 1)
        return dict(order[self._turn :] + order[: self._turn])

    def _advance(self, asked: Mapping[int, int], found: dict[int, list[Record]]) -> dict[int, list[Record]]:
        """Move the positions past what was found; drop what was asked for before an assignment changed."""
        got = {which: records for which, records in found.items() if self._positions.get(which) == asked[which]}
        for partition, records in got.items():
            self._positions[partition] = records[-1].offset + 1
        return got

    async def read(
        self, partition: int, *, begin: int, end: int, key: bytes | None = None
    ) -> AsyncIterator[list[Record]]:
        """As the port says. Raises RangeLost where ``begin`` is below the log's begin."""
        end = min(end, (await self._opened.run(lambda file: sqlite_read.range_of(file, partition))).end)
        while begin < end:
            stretch = min(end, begin + sqlite_read.LONGEST_SCAN)
            limit = sqlite_read.Limit(records=_READ_RECORDS, size=_READ_BYTES)
            found = await self._opened.run(
                partial(sqlite_read.records, partition=partition, begin=begin, end=stretch, limit=limit, key=key)
            )
            begin = found[-1].offset + 1 if found else stretch
            if found:
                yield list[Record](found)


def _batch_in_turn(
    file: sqlite3.Connection, positions: Mapping[int, int], limit: sqlite_read.Limit
) -> dict[int, list[Record]]:
    with TURN:
        return sqlite_read.batch(file, positions, limit)


class SqliteSink:
    """Writes a SQLite log, and makes it where there is none; see :class:`runfold.log.port.LogSink`.

    ``partitions`` (1 to 1,000) counts for a new log only. ``clock`` gives Unix milliseconds. Records are stamped with the
    time of appending, which never goes back within a partition.
    """

    def __init__(self, path: Path, *, partitions: int = 4, clock: Callable[[], int] = wall_clock) -> None:
        if not 1 <= partitions <= sqlite_file.MOST_PARTITIONS:
            raise ValueError(f"partitions: {partitions} is not between 1 and {sqlite_file.MOST_PARTITIONS}")
        self._path, self._partitions, self._clock = path, partitions, clock
        self._opened = _OpenFile(path, self._create_and_open)
        self._ringer = Ringer(path)

    def _create_and_open(self, path: Path) -> sqlite3.Connection:
        sqlite_file.create(path, partitions=self._partitions)
        return sqlite_file.open_for_writing(path)

    async def start(self) -> None:
        await self._opened.open()

    async def close(self) -> None:
        await self._opened.close()

    async def append(self, messages: Sequence[Message]) -> list[Place]:
        """As the port says. Raises LogUnreachable where the file is full, locked or not writable: nothing was written."""
        if not messages:
            return []
        return await self._opened.run(lambda file: self._append(file, messages))

    async def append_stamped(self, partition: int, records: Sequence[Record]) -> None:
        """Write records of another log to one partition, where they stood there and stamped as they were, or none of them.

        Raises LogError where the partition is beyond the first of them already, else as append does.
        """
        await self._opened.run(lambda file: self._append_stamped(file, partition, records))

    def _append_stamped(self, file: sqlite3.Connection, partition: int, records: Sequence[Record]) -> None:
        rows = [
            (each.offset, each.timestamp, each.key, each.value, _encode_headers(each.headers) if each.headers else None)
            for each in records
        ]
        with _transaction(file):
            end, _ = sqlite_read.end_and_time(file, partition)
            if records[0].offset < end:
                raise LogError(f"RUNFOLD_LOG: {self._path} was written by others while records were restored into it")
            file.executemany(f"INSERT INTO partition_{partition} VALUES (?, ?, ?, ?, ?)", rows)
        self._ringer.ring()

    def _append(self, file: sqlite3.Connection, messages: Sequence[Message]) -> list[Place]:
        count = self._opened.file.partitions
        partitions = [key_hash(message.key) % count for message in messages]
        shares: defaultdict[int, list[Message]] = defaultdict(list)
        for partition, message in zip(partitions, messages, strict=True):
            shares[partition].append(message)
        firsts = self._insert(file, shares)
        self._ringer.ring()
        offsets = {partition: itertools.count(first) for partition, first in firsts.items()}
        return [Place(partition, next(offsets[partition])) for partition in partitions]

    def _insert(self, file: sqlite3.Connection, shares: Mapping[int, list[Message]]) -> dict[int, int]:
        """Write each partition's share behind what it has, all in one transaction. Returns the first offset of each."""
        firsts = {}
        with _transaction(file):
            now = self._clock()
            for partition, share in shares.items():
                first, timestamp = sqlite_read.end_and_time(file, partition)
                stamp = max(now, timestamp)
                file.executemany(
                    f"INSERT INTO partition_{partition} VALUES (?, ?, ?, ?, ?)",
                    [
                        (offset, stamp, key, value, _encode_headers(headers) if headers else None)
                        for offset, (key, value, headers) in enumerate(share, first)
                    ],
                )
                firsts[partition] = first
        return firsts


@contextmanager
def _transaction(file: sqlite3.Connection) -> Iterator[None]:
    """All or nothing; the ends are read under the lock, because other processes append too."""
    file.execute("BEGIN IMMEDIATE")
    try:
        yield
        file.execute("COMMIT")
    except BaseException:
        if file.in_transaction:
            file.execute("ROLLBACK")
        raise
