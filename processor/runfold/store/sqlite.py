"""The store in one SQLite file: the embedded default.

Lanes, each a connection with its own thread: one writes, one loads runs for the fold, a few read for people, one of them
what is found by a key, so that neither a long list nor a commit under way keeps anybody waiting. What may change here is which
lane does what; what is written stands in sqlite_writes, what is asked in sqlite_reads.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from runfold.fold.changes import Changes, Letter
from runfold.store import (
    sqlite_api_keys,
    sqlite_leases,
    sqlite_lists,
    sqlite_reads,
    sqlite_usage,
    sqlite_writes,
)
from runfold.store.port import (
    ApiKey,
    DoorChange,
    Lease,
    Note,
    PartitionStatus,
    RunFilter,
    RunPage,
    StoredRun,
    StoreIdentity,
    UsageQuery,
    UsageRow,
    UsageSum,
)
from runfold.store.serve_lock import serve_lock
from runfold.store.sqlite_connection import Lane
from runfold.store.sqlite_events import read_letters
from runfold.store.sqlite_keys import YOUNG
from runfold.store.sqlite_pool import Readers
from runfold.store.sqlite_schema import MIGRATIONS, check_readable, migrate
from runfold.store.sqlite_snapshot import SqliteSnapshot
from runfold.store.sqlite_stamp import Stamp


class SqliteStore:
    """See :class:`runfold.store.port.Store`. ``glance`` is the lane of questions by a key (:class:`LoopLane` for servers).

    ``connection`` and ``young`` are for tests: faults, and small key tables.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        glance: type[Lane] = Lane,
        connection: type[sqlite3.Connection] = sqlite3.Connection,
        young: int = YOUNG,
    ) -> None:
        self.path = Path(path)
        self._factory = connection
        self._stamp = Stamp(young=young)
        self._glance = glance
        self._lanes: dict[str, Lane] = {}
        self._readers: Readers | None = None
        self._alone = False

    @contextmanager
    def serve_lock(self) -> Iterator[None]:
        with serve_lock(self.path):
            self._alone = True
            try:
                yield
            finally:
                self._alone = False

    async def open(self, *, write: bool = True) -> None:
        try:
            if write:
                await self._add_lane("write")
                await self._lane("write").run(migrate, self.path)
            if write and self._alone:
                # Whoever holds the lock is the only owner alive: what a killed one held need not be waited for.
                await self._lane("write").run(sqlite_leases.free_all)
            await self._add_lane("glance", self._glance)
            await self._lane("glance").run(check_readable, self.path)
            await self._add_lane("load")
            self._readers = Readers(lambda: Lane(self.path, write=False, factory=self._factory))
        except BaseException:
            await self.close()
            raise

    async def _add_lane(self, name: str, kind: type[Lane] = Lane) -> None:
        lane = self._lanes[name] = kind(self.path, write=name == "write", factory=self._factory)
        await lane.open()

    async def close(self) -> None:
        # The writer last: the last connection to go checkpoints the write-ahead log, which readers may not.
        if self._readers is not None:
            readers, self._readers = self._readers, None
            await readers.close()
        while self._lanes:
            _, lane = self._lanes.popitem()
            await lane.close()

    def _lane(self, name: str) -> Lane:
        lane = self._lanes.get(name)
        if lane is None:
            raise RuntimeError(f"the store is not open to {name}")
        return lane

    def _read(self) -> Readers:
        if self._readers is None:
            raise RuntimeError("the store is not open to read")
        return self._readers

    def _bound(self) -> Stamp:
        if self._stamp.fold is None:
            raise RuntimeError("bind the store to its log and fold before writing")
        return self._stamp

    async def identity(self) -> StoreIdentity:
        return await self._read().read(sqlite_leases.read_identity)

    async def bind(
        self,
        *,
        cluster_id: str,
        topic: str,
        partitions: int,
        fold_version: int,
        compatible: Sequence[int],
        settings_hash: str,
    ) -> None:
        owner = StoreIdentity(
            schema_version=len(MIGRATIONS),
            cluster_id=cluster_id,
            topic=topic,
            partitions=partitions,
            fold_version=fold_version,
            settings_hash=settings_hash,
        )
        self._stamp.fold = await self._lane("write").run(sqlite_leases.bind, owner, compatible=compatible)

    async def claim(self, owner: str, partitions: Mapping[int, int], *, lease: float) -> dict[int, Lease]:
        return await self._lane("write").run(sqlite_leases.claim, owner, partitions, lease_ms=round(lease * 1000))

    async def renew(self, owner: str, leases: Mapping[int, Lease], *, lease: float) -> set[int]:
        return await self._lane("write").run(sqlite_leases.renew, owner, leases, lease_ms=round(lease * 1000))

    async def release(self, owner: str, leases: Mapping[int, Lease]) -> None:
        await self._lane("write").run(sqlite_leases.release, owner, leases)

    async def load(self, partition: int, run_ids: Sequence[str]) -> dict[str, StoredRun]:
        return await self._lane("load").read(sqlite_reads.load, partition, run_ids)

    async def apply(self, changes: Changes, leases: Mapping[int, Lease]) -> dict[tuple[int, str], int]:
        return await self._lane("write").run(sqlite_writes.apply, changes, leases=leases, stamp=self._bound())

    async def write_through_door(self, change: DoorChange) -> None:
        await self._lane("write").run(sqlite_writes.write_through_door, change, stamp=self._bound())

    async def add_note(self, note: Note) -> None:
        await self._lane("write").run(sqlite_writes.write_note, note)

    async def notes(self) -> list[Note]:
        return await self._read().read(sqlite_leases.read_notes)

    async def add_key(self, key: ApiKey) -> None:
        await self._lane("write").run(sqlite_api_keys.add, key)

    async def revoke_key(self, key_id: str) -> bool:
        return await self._lane("write").run(sqlite_api_keys.revoke, key_id)

    async def keys(self) -> list[ApiKey]:
        return await self._lane("glance").read(sqlite_api_keys.read)

    async def partitions(self) -> list[PartitionStatus]:
        return await self._lane("glance").read(sqlite_leases.read_partitions)

    async def find_run(self, run_id: str, *, project_id: str | None = None) -> list[StoredRun]:
        return await self._lane("glance").run(sqlite_reads.find_run, run_id, project_id=project_id)

    async def list_runs(self, wanted: RunFilter) -> list[StoredRun]:
        reader = self._read() if wanted.thread_id is None else self._lane("glance")
        return await reader.read(sqlite_lists.list_runs, wanted)

    async def browse_runs(self, wanted: RunFilter, *, seconds: float) -> RunPage:
        return await self._read().read(sqlite_lists.browse_runs, wanted, seconds=seconds)

    async def count_runs(self) -> dict[str, int]:
        return await self._read().read(sqlite_reads.count_runs)

    async def count_flagged(self) -> dict[str, int]:
        return await self._read().read(sqlite_reads.count_flagged)

    async def usage(self, *, begin: int | None = None, end: int | None = None) -> list[UsageRow]:
        return await self._read().read(sqlite_reads.usage, begin=begin, end=end)

    async def sum_usage(self, wanted: UsageQuery) -> list[UsageSum]:
        return await self._read().read(sqlite_usage.sum_usage, wanted)

    async def letters(
        self,
        *,
        run_id: str | None = None,
        place: tuple[int, int] | None = None,
        limit: int = 100,
        after: tuple[int, int] | None = None,
    ) -> list[Letter]:
        return await self._read().read(read_letters, run_id=run_id, place=place, limit=limit, after=after)

    async def count_letters(self) -> dict[str, int]:
        return await self._read().read(sqlite_reads.count_letters)

    async def snapshot(self) -> SqliteSnapshot:
        return await asyncio.to_thread(SqliteSnapshot, self.path)
