"""Stores beside a PostgreSQL store: schemas of its database, and the renaming that makes one of them the live one.

Names are resolved again after a schema was renamed, also in statements that living sessions have prepared: everybody goes
on by the name of the live one, tools that know it by name as well. What may change here is how schemas are named and found.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Final, TypeVar

from asyncpg import InterfaceError, LockNotAvailableError, PostgresError

from runfold.store import postgres_leases
from runfold.store.port import Lease, StalePosition, Store, StoreBusy, StoreRefused
from runfold.store.postgres import PostgresStore
from runfold.store.postgres_connection import BUILDER, NOW, VIEWER, WRITER, Lane, Session, Settings, connect
from runfold.store.postgres_schema import check_readable, drop_late_indexes, lock_schema, make_late_indexes, migrate
from runfold.store.postgres_url import parse_url
from runfold.store.rows import lease_of
from runfold.store.shadows import CARRIED, FORMER, LEFT, LIVE, SHADOW, Standing

T = TypeVar("T")

_ALONE: Final = "hashtextextended('runfold:rebuild:' || $1, 0)"
_LONGEST: Final = 63
_LOCK_SECONDS: Final = 0.5
"""Below the second after which PostgreSQL looks for a deadlock, and would end a reader for it: who switches gives in first."""
_LOCK_TRIES: Final = 10
_LOCK_PAUSE: Final = 0.5
_OTHERS: Final = (
    "select nspname from pg_namespace where nspname ~ ('^' || $1 || '_r[0-9]{8}t[0-9]{12}$') order by nspname"
)
_SIZE: Final = """select coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint from pg_class as c
    join pg_namespace as s on s.oid = c.relnamespace where s.nspname = $1 and c.relkind = 'r'"""
_TABLES: Final = "select tablename from pg_tables where schemaname = $1 order by tablename <> 'meta', tablename"
_HOLD: Final = f"""with every as (select partition from position order by partition for update)
    update position set owner = $1, epoch = epoch + 1, lease_until = {NOW} + $2, backend = null, backend_since = null
    from every where position.partition = every.partition
    returning position.partition, next, epoch, first_offset, last_offset, last_hash"""
_FREE: Final = "owner = null, lease_until = 0, backend = null, backend_since = null"
_DIFFERING: Final = """select exists (select from position as live left join "{name}".position as other using (partition)
    where other.next is distinct from live.next)"""
_NEW_NOTES: Final = 'select exists (select * from note except select * from "{name}".note)'


class PostgresShadows:
    """See :class:`runfold.store.shadows.Shadows`. ``url`` is the store's, as RUNFOLD_STORE names it."""

    def __init__(self, url: str) -> None:
        self._url, self._database = url, parse_url(url)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        if self._database.pooled:  # no session is anybody's: there, that is left to people
            yield
            return
        session = await connect(self._database, VIEWER)
        try:
            if not await session.connection.fetchval(f"select pg_try_advisory_lock({_ALONE})", self._database.schema):
                raise StoreBusy(
                    f"the store {self._database.place} (RUNFOLD_STORE) is being rebuilt: one rebuild at a time"
                )
            yield
        finally:
            # Not by closing alone: who comes next need not wait until the server has noticed.
            with suppress(PostgresError, InterfaceError, OSError, TimeoutError):
                await session.connection.execute(
                    f"select pg_advisory_unlock({_ALONE})", self._database.schema, timeout=1
                )
            session.connection.terminate()

    async def standing(self) -> list[Standing]:
        return await self._on(None, VIEWER, self._standing)

    async def make(self, *, scope: str) -> str:
        name = self._new_name()

        async def made(session: Session) -> None:
            await migrate(session)
            async with session.writing():
                await session.connection.execute("update meta set scope = $1", scope)
                await drop_late_indexes(session)

        await self._on(name, WRITER, made)
        return name

    def opened(self, name: str) -> Store:
        return PostgresStore(self._url, schema=name)

    async def complete(self, name: str) -> None:
        await self._on(name, BUILDER, make_late_indexes)

    async def hold(self, owner: str, *, lease: float) -> dict[int, Lease]:
        async def held(session: Session) -> dict[int, Lease]:
            async with session.writing():
                rows = await session.connection.fetch(_HOLD, owner, round(lease * 1000))
            return {row[0]: lease_of(row) for row in rows}

        return await self._on(None, WRITER, held)

    async def release(self, owner: str, held: Mapping[int, Lease]) -> None:
        await self._on(None, WRITER, lambda session: postgres_leases.release(session, owner, held))

    async def exchange(self, name: str, held: Mapping[int, Lease]) -> None:
        former = self._new_name()

        async def exchanged(session: Session) -> None:
            for _ in range(_LOCK_TRIES - 1):
                try:
                    return await _exchange(session, name, held, former=former)
                except LockNotAvailableError:
                    await asyncio.sleep(_LOCK_PAUSE)
            return await _exchange(session, name, held, former=former)

        await self._on(None, WRITER, exchanged)

    async def drop(self, name: str) -> None:
        if name not in [each.name for each in await self.standing() if each.role != LIVE]:
            raise StoreRefused(f"{name} is no store beside {self._database.place} that could be dropped")

        async def dropped(session: Session) -> None:
            async with session.writing():
                await session.connection.execute(f'drop schema "{name}" cascade')

        await self._on(None, WRITER, dropped)

    async def _on(self, schema: str | None, settings: Settings, work: Callable[[Session], Awaitable[T]]) -> T:
        """``work(session)`` on a connection of its own, in the live schema or in another one."""
        lane = Lane(self._database if schema is None else self._database.beside(schema), settings, patience=None)
        try:
            return await lane.run(work)
        finally:
            await lane.close()

    def _new_name(self) -> str:
        """A schema's name that was never given before."""
        name = f"{self._database.schema}_r{datetime.now(UTC):%Y%m%dt%H%M%S%f}"
        if len(name) > _LONGEST:
            most = _LONGEST - len(name) + len(self._database.schema)
            raise StoreRefused(
                f"{self._database.place} (RUNFOLD_STORE): a schema beside it would have too long a name: rename it, its own "
                f"may have {most} characters"
            )
        return name

    async def _standing(self, session: Session) -> list[Standing]:
        await check_readable(session)
        live = self._database.schema
        names = [live, *(row[0] for row in await session.connection.fetch(_OTHERS, live))]
        former = await session.connection.fetchval("select former from meta")
        return [await _told(session, name, live=live, former=former) for name in names]


async def _told(session: Session, name: str, *, live: str, former: str | None) -> Standing:
    row = await session.connection.fetchrow(f'select switched, scope from "{name}".meta')
    assert row is not None
    was_live = row["switched"] > 0 or row["scope"] is None
    role = LIVE if name == live else FORMER if name == former else LEFT if was_live else SHADOW
    size = await session.connection.fetchval(_SIZE, name)
    return Standing(name=name, role=role, scope=row["scope"], number=row["switched"], size=size)


async def _exchange(session: Session, name: str, held: Mapping[int, Lease], *, former: str) -> None:
    """Superseding the live schema, in one transaction.

    1. Every table of the live schema is locked against everybody: no transaction that has read or written one of them goes
       on after the switch, and whoever waits resolves the name again, and finds the successor. ``meta`` stands first: with
       it those are waited for who read more than once.
    2. The partitions are still held, both schemas stand at the same positions and have the same notes.
    3. The successor's epochs are above all that were given; partitions are free in both. The tables CARRIED are copied.
    4. The schemas change their names.
    """
    execute, fetchval, live = session.connection.execute, session.connection.fetchval, session.database.schema
    async with session.writing(lock=_LOCK_SECONDS):
        await lock_schema(session)
        tables = ", ".join(f'"{row[0]}"' for row in await session.connection.fetch(_TABLES, live))
        await execute(f"lock table {tables} in access exclusive mode")
        rows = await session.connection.fetch("select partition, epoch from position")
        if {row["partition"]: row["epoch"] for row in rows} != {
            partition: lease.epoch for partition, lease in held.items()
        }:
            raise StalePosition(
                "a partition was taken again before the stores could be exchanged: nothing was switched"
            )
        if await fetchval(_DIFFERING.format(name=name)):
            raise StalePosition("the rebuilt store does not stand where the live one does: nothing was switched")
        if await fetchval(_NEW_NOTES.format(name=name)):
            raise StalePosition("a note was added to the live store meanwhile: nothing was switched")
        await execute(
            f"""update "{name}".position as other set epoch = greatest(other.epoch, live.epoch) + 1
                from position as live where live.partition = other.partition"""
        )
        for table in CARRIED:
            await execute(f'delete from "{name}".{table}')
            await execute(f'insert into "{name}".{table} select * from "{live}".{table}')
        for schema in (name, live):
            await execute(f'update "{schema}".position set {_FREE}')
        await execute(
            f'update "{name}".meta set switched = live.switched + 1, former = $1 from "{live}".meta as live', former
        )
        await execute(f'alter schema "{live}" rename to "{former}"; alter schema "{name}" rename to "{live}"')
