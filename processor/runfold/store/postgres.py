"""The store in PostgreSQL: for more than one machine.

One connection writes, one loads runs for the fold, a few read for people, so that neither a long list nor a commit under way
keeps the fold waiting; each is made anew when it is lost. What may change here is which connection does what; what is
written stands in postgres_writes, what is asked in postgres_reads.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from functools import partial

from runfold.fold.changes import Changes, Letter
from runfold.store import (
    postgres_api_keys,
    postgres_events,
    postgres_incidents,
    postgres_leases,
    postgres_reads,
    postgres_usage,
    postgres_workers,
    postgres_writes,
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
from runfold.store.postgres_connection import READER, WRITER, Lane, Session
from runfold.store.postgres_pool import Readers
from runfold.store.postgres_schema import MIGRATIONS, check_readable, migrate
from runfold.store.postgres_snapshot import PostgresSnapshot
from runfold.store.postgres_stamp import Stamp
from runfold.store.postgres_url import parse_url
from runfold.store.usage_query import UsageQuery, UsageRow, UsageSum


class PostgresStore:
    """See :class:`runfold.store.port.Store`. ``url`` as in :mod:`runfold.store.postgres_url`; ``schema`` instead of its own.

    ``takeover`` is how many seconds a transaction of an owner whose lease has run out may stand in the way of a claim.
    """

    def __init__(
        self, url: str, *, schema: str | None = None, takeover: float = postgres_leases.TAKEOVER_SECONDS
    ) -> None:
        self.database = parse_url(url) if schema is None else parse_url(url).beside(schema)
        self._takeover = takeover
        self._stamp = Stamp()
        self._bind: Callable[[Session], Awaitable[postgres_leases.Bound]] | None = None
        self._writer: Lane | None = None
        self._loader: Lane | None = None
        self._readers: Readers | None = None

    def serve_lock(self) -> AbstractContextManager[None]:
        return nullcontext()  # any number of processes serve it, each its own partitions

    async def open(self, *, write: bool = True) -> None:
        self._loader, self._readers = Lane(self.database, READER), Readers(self.database)
        try:
            if write:
                await self._migrate()
                self._writer = Lane(self.database, WRITER)
            await self._loader.run(check_readable)
        except BaseException:
            await self.close()
            raise

    async def _migrate(self) -> None:
        migrator = Lane(self.database, WRITER, patience=None)  # a migration may rewrite a large table
        try:
            await migrator.run(migrate)
        finally:
            await migrator.close()

    async def close(self) -> None:
        # The writer first: while it closes, what it was given before is written.
        async with AsyncExitStack() as closing:
            for lane in (self._readers, self._loader, self._writer):
                if lane is not None:
                    closing.push_async_callback(lane.close)
        self._writer, self._loader, self._readers = None, None, None

    def _write(self) -> Lane:
        if self._writer is None:
            raise RuntimeError("the store is not open to write")
        return self._writer

    def _load(self) -> Lane:
        if self._loader is None:
            raise RuntimeError("the store is not open")
        return self._loader

    def _read(self) -> Readers:
        if self._readers is None:
            raise RuntimeError("the store is not open")
        return self._readers

    async def identity(self) -> StoreIdentity:
        return await self._read().read(postgres_leases.read_identity)

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
        self._bind = partial(postgres_leases.bind, owner=owner, compatible=compatible)
        await self._rebind()

    async def _rebind(self) -> None:
        if self._bind is None:
            return
        bound = await self._write().run(self._bind)
        if bound.switched != self._stamp.switched:
            self._stamp.forget()
        self._stamp.fold, self._stamp.switched = bound

    async def claim(self, owner: str, partitions: Mapping[int, int], *, lease: float) -> dict[int, Lease]:
        lease_ms, takeover = round(lease * 1000), self._takeover
        claimed = await self._write().run(
            lambda session: postgres_leases.claim(session, owner, partitions, lease_ms=lease_ms, takeover=takeover)
        )
        if claimed.switched != self._stamp.switched:
            await self._rebind()
        return claimed.leases

    async def renew(self, owner: str, leases: Mapping[int, Lease], *, lease: float) -> set[int]:
        lease_ms = round(lease * 1000)
        return await self._write().run(lambda session: postgres_leases.renew(session, owner, leases, lease_ms=lease_ms))

    async def release(self, owner: str, leases: Mapping[int, Lease]) -> None:
        await self._write().run(lambda session: postgres_leases.release(session, owner, leases))

    async def crew(self) -> Crew:
        return await self._read().read(postgres_workers.read_crew)

    async def workers(self) -> list[WorkerStatus]:
        return await self._read().read(postgres_workers.read_workers)

    async def leave(self, owner: str) -> None:
        await self._write().run(lambda session: postgres_workers.leave(session, owner))

    async def bury(self, owners: Sequence[str]) -> None:
        await self._write().run(lambda session: postgres_workers.bury(session, owners))

    async def begin_trial(self, lease: Lease, offset: int) -> None:
        await self._write().run(lambda session: postgres_workers.begin_trial(session, lease, offset))

    async def accept_growth(self, growth: Growth) -> None:
        await self._write().run(lambda session: postgres_incidents.accept_growth(session, growth))

    async def growths(self) -> list[Growth]:
        return await self._read().read(postgres_incidents.read_growths)

    async def note_loss(self, lost: LostRange) -> None:
        await self._write().run(lambda session: postgres_incidents.note_loss(session, lost))

    async def accept_loss(self, lost: LostRange) -> None:
        await self._write().run(lambda session: postgres_incidents.accept_loss(session, lost))

    async def lost_ranges(self) -> list[LostRange]:
        return await self._read().read(postgres_incidents.read_lost_ranges)

    async def load(self, partition: int, run_ids: Sequence[str]) -> dict[str, StoredRun]:
        return {row.run_id: row for row in await self.load_each({partition: run_ids})}

    async def load_each(self, wanted: Mapping[int, Sequence[str]]) -> list[StoredRun]:
        return await self._load().run(lambda session: postgres_reads.load(session, wanted))

    async def apply(self, changes: Changes, leases: Mapping[int, Lease]) -> dict[tuple[int, str], int]:
        stamp = self._stamp
        return await self._write().run(
            lambda session: postgres_writes.apply(session, changes, leases=leases, stamp=stamp)
        )

    async def write_through_door(self, change: DoorChange) -> None:
        stamp = self._stamp
        await self._write().run(lambda session: postgres_writes.write_through_door(session, change, stamp=stamp))

    async def add_note(self, note: Note) -> None:
        await self._write().run(lambda session: postgres_leases.write_note(session, note))

    async def remove_note(self, note: Note) -> None:
        await self._write().run(lambda session: postgres_leases.remove_note(session, note))

    async def notes(self) -> list[Note]:
        return await self._read().read(postgres_leases.read_notes)

    async def add_key(self, key: ApiKey) -> None:
        await self._write().run(lambda session: postgres_api_keys.add(session, key))

    async def revoke_key(self, key_id: str) -> bool:
        return await self._write().run(lambda session: postgres_api_keys.revoke(session, key_id))

    async def keys(self) -> list[ApiKey]:
        return await self._read().read(postgres_api_keys.read)

    async def partitions(self) -> list[PartitionStatus]:
        return await self._read().read(postgres_leases.read_partitions)

    async def find_run(self, run_id: str, *, project_id: str | None = None) -> list[StoredRun]:
        return await self._read().read(lambda session: postgres_reads.find_run(session, run_id, project_id=project_id))

    async def list_runs(self, wanted: RunFilter) -> list[StoredRun]:
        return await self._read().read(lambda session: postgres_reads.list_runs(session, wanted))

    async def browse_runs(self, wanted: RunFilter, *, seconds: float) -> RunPage:
        return await self._read().read(lambda session: postgres_reads.browse_runs(session, wanted, seconds=seconds))

    async def count_runs(self) -> dict[str, int]:
        return await self._read().read(postgres_reads.count_runs)

    async def count_flagged(self) -> dict[str, int]:
        return await self._read().read(postgres_reads.count_flagged)

    async def usage(self, *, begin: int | None = None, end: int | None = None) -> list[UsageRow]:
        return await self._read().read(lambda session: postgres_reads.usage(session, begin=begin, end=end))

    async def sum_usage(self, wanted: UsageQuery) -> list[UsageSum]:
        return await self._read().read(lambda session: postgres_usage.sum_usage(session, wanted))

    async def letters(
        self,
        *,
        run_id: str | None = None,
        place: tuple[int, int] | None = None,
        limit: int = 100,
        after: tuple[int, int] | None = None,
    ) -> list[Letter]:
        return await self._read().read(
            lambda session: postgres_events.read_letters(session, run_id=run_id, place=place, limit=limit, after=after)
        )

    async def count_letters(self) -> dict[str, int]:
        return await self._read().read(postgres_events.count_letters)

    async def snapshot(self) -> PostgresSnapshot:
        return await PostgresSnapshot.take(self.database)
