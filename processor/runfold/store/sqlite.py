"""The store in one SQLite file: the embedded default.

Lanes, each a connection with its own thread: one writes, one loads runs for the fold, a few read for people, one of them
what is found by a key, so that neither a long list nor a commit under way keeps anybody waiting. What may change here is which
lane does what; what is written stands in sqlite_writes, what is asked in sqlite_reads.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from runfold.fold.changes import Changes, Letter
from runfold.sqlite_turns import TURN
from runfold.store import (
    sqlite_api_keys,
    sqlite_incidents,
    sqlite_leases,
    sqlite_lists,
    sqlite_reads,
    sqlite_usage,
    sqlite_workers,
    sqlite_writes,
)
from runfold.store.port import (
    ApiKey,
    Crew,
    DoorChange,
    Growth,
    Lease,
    LostRange,
    Note,
    PartitionStatus,
    RunFilter,
    RunPage,
    StoredRun,
    StoreIdentity,
    WorkerStatus,
)
from runfold.store.serve_lock import in_turn, serve_lock
from runfold.store.sqlite_checkpoint import LONGEST, Checkpoints
from runfold.store.sqlite_connection import MAKE, READ
from runfold.store.sqlite_events import read_letters
from runfold.store.sqlite_keys import YOUNG
from runfold.store.sqlite_lane import Lane
from runfold.store.sqlite_links import place_of
from runfold.store.sqlite_pool import Readers
from runfold.store.sqlite_schema import MIGRATIONS, check_readable, migrate
from runfold.store.sqlite_snapshot import SqliteSnapshot
from runfold.store.sqlite_stamp import Stamp
from runfold.store.usage_query import UsageQuery, UsageRow, UsageSum


class SqliteStore:
    """See :class:`runfold.store.port.Store`. ``path`` is where the links to the live file begin, which it is at first.

    ``glance`` is the lane of questions by a key (:class:`LoopLane` for servers). ``arrived`` may be
    :data:`runfold.store.sqlite_links.ITSELF`. ``turn`` is the lock file of those who fill one store from nothing, by large
    batches: SQLite's own way to wait is to ask now and then, which lets one wait for ever. ``connection`` and ``young`` are
    for tests: faults, and small key tables.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        glance: type[Lane] = Lane,
        arrived: int = 0,
        turn: Path | None = None,
        connection: type[sqlite3.Connection] = sqlite3.Connection,
        young: int = YOUNG,
    ) -> None:
        self.path = Path(path)
        self._place = place_of(self.path)._replace(arrived=arrived)
        self._turn = turn
        self._factory = connection
        self._stamp = Stamp(young=young)
        self._bind: Callable[[sqlite3.Connection], int] | None = None
        self._glance = glance
        self._lanes: dict[str, Lane] = {}
        self._readers: Readers | None = None
        self._checkpoints: Checkpoints | None = None
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
        lane = partial(Lane, self._place, factory=self._factory)
        try:
            if write:
                await self._add_lane("write", lane(mode=MAKE, reopened=self._rebind, turn=TURN))
                await self._lane("write").run(migrate, self.path)
            if write and self._turn is not None:
                self._checkpoints = Checkpoints(self._lane("write"))
                await self._checkpoints.take_over()
            if write and self._alone:
                # Whoever holds the lock is the only owner alive: what a killed one held need not be waited for.
                await self._lane("write").run(sqlite_workers.bury_all)
            await self._add_lane("glance", self._glance(self._place, mode=READ, factory=self._factory))
            await self._lane("glance").run(check_readable, self.path)
            await self._add_lane("load", lane(mode=READ, turn=TURN))
            self._readers = Readers(partial(lane, mode=READ))
        except BaseException:
            await self.close()
            raise

    async def _add_lane(self, name: str, lane: Lane) -> None:
        self._lanes[name] = lane
        await lane.open()

    def _rebind(self, db: sqlite3.Connection, path: Path) -> None:
        """The writer goes on in another file: its keys are others, and it may be of another fold (StoreRefused)."""
        check_readable(db, path)
        self._stamp.forget()
        if self._bind is not None:
            self._stamp.fold = self._bind(db)

    async def close(self) -> None:
        # The writer last: the last connection to go checkpoints the write-ahead log, which readers may not.
        if self._checkpoints is not None:
            checkpoints, self._checkpoints = self._checkpoints, None
            await checkpoints.left_off()
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
        self._bind = partial(sqlite_leases.bind, owner=owner, compatible=compatible)
        self._stamp.fold = await self._lane("write").run(self._bind)

    async def claim(self, owner: str, partitions: Mapping[int, int], *, lease: float) -> dict[int, Lease]:
        return await self._lane("write").run(sqlite_leases.claim, owner, partitions, lease_ms=round(lease * 1000))

    async def renew(self, owner: str, leases: Mapping[int, Lease], *, lease: float) -> set[int]:
        return await self._lane("write").run(sqlite_leases.renew, owner, leases, lease_ms=round(lease * 1000))

    async def release(self, owner: str, leases: Mapping[int, Lease]) -> None:
        await self._lane("write").run(sqlite_leases.release, owner, leases)

    async def crew(self) -> Crew:
        return await self._read().read(sqlite_workers.read_crew)

    async def workers(self) -> list[WorkerStatus]:
        return await self._read().read(sqlite_workers.read_workers)

    async def leave(self, owner: str) -> None:
        await self._lane("write").run(sqlite_workers.leave, owner)

    async def bury(self, owners: Sequence[str]) -> None:
        await self._lane("write").run(sqlite_workers.bury, owners)

    async def begin_trial(self, lease: Lease, offset: int) -> None:
        await self._lane("write").run(sqlite_workers.begin_trial, lease, offset)

    async def accept_growth(self, growth: Growth) -> None:
        await self._lane("write").run(sqlite_incidents.accept_growth, growth)

    async def growths(self) -> list[Growth]:
        return await self._read().read(sqlite_incidents.read_growths)

    async def note_loss(self, lost: LostRange) -> None:
        await self._lane("write").run(sqlite_incidents.note_loss, lost)

    async def accept_loss(self, lost: LostRange) -> None:
        await self._lane("write").run(sqlite_incidents.accept_loss, lost)

    async def lost_ranges(self) -> list[LostRange]:
        return await self._read().read(sqlite_incidents.read_lost_ranges)

    async def load(self, partition: int, run_ids: Sequence[str]) -> dict[str, StoredRun]:
        return {row.run_id: row for row in await self.load_each({partition: run_ids})}

    async def load_each(self, wanted: Mapping[int, Sequence[str]]) -> list[StoredRun]:
        return await self._lane("load").read(sqlite_reads.load, wanted)

    async def apply(self, changes: Changes, leases: Mapping[int, Lease]) -> dict[tuple[int, str], int]:
        if (checkpoints := self._checkpoints) is None:
            return await self._lane("write").run(self._apply, changes, leases, self._bound())
        await checkpoints.over()
        handles = await self._lane("write").run(self._apply, changes, leases, self._bound())
        checkpoints.begin()
        return handles

    def _apply(
        self, db: sqlite3.Connection, changes: Changes, leases: Mapping[int, Lease], stamp: Stamp
    ) -> sqlite_writes.Handles:
        with in_turn(self._turn):
            if self._checkpoints is not None and self._checkpoints.length > LONGEST:
                self._checkpoints.copy(db)
            return sqlite_writes.apply(db, changes, leases=leases, stamp=stamp)

    async def write_through_door(self, change: DoorChange) -> None:
        await self._lane("write").run(sqlite_writes.write_through_door, change, stamp=self._bound())

    async def add_note(self, note: Note) -> None:
        await self._lane("write").run(sqlite_writes.write_note, note)

    async def remove_note(self, note: Note) -> None:
        await self._lane("write").run(sqlite_writes.remove_note, note)

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
        return await self._lane("glance").read(sqlite_reads.find_run, run_id, project_id=project_id)

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
        return await asyncio.to_thread(SqliteSnapshot, self._place)
