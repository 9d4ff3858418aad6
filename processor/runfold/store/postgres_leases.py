"""Who may fold which partition, and whose store this is: the small rows of the PostgreSQL store.

Leases only balance. What keeps two owners from writing is the compare of position and epoch in every transaction, so a
lease may safely run out under a working owner. Their clock is the server's.

An owner that was stopped inside its transaction keeps its rows locked for as long as it stands, and in the middle of a COPY
no timeout of the server ends it. So a lease names the backend that writes for its owner, and a successor who waits in vain
ends it, as an owner does whose own connection was lost while the server still waits on it. Behind a pooler no backend
belongs to anybody: there, that is left to whoever stopped the process.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from asyncpg import LockNotAvailableError, Record
from msgspec.structs import replace

from runfold.store.identity import check_owner
from runfold.store.port import Lease, Note, PartitionStatus, StoreIdentity
from runfold.store.postgres_connection import NOW, Session
from runfold.store.postgres_rows import stored_text, told_text
from runfold.store.postgres_schema import lock_schema

CLAIM_LOCK_SECONDS: Final = 1.0
TAKEOVER_SECONDS: Final = 5.0
"""A transaction of an owner whose lease has run out is ended when it is older than this and stands in the way."""

_MY_BACKEND: Final = "(select backend_start from pg_stat_activity where pid = pg_backend_pid())"
_BEGIN: Final = """insert into position (partition, next, epoch, lease_until, first_offset)
    select partition, begin, 0, 0, begin from unnest($1::integer[], $2::bigint[]) as given (partition, begin)
    where not exists (select from position as known where known.partition = given.partition)
    order by partition on conflict do nothing"""
# Rows are locked in key order, and looked at again once they are: whoever was quicker has them.
_CLAIM: Final = f"""with free as (select partition from position where partition = any($1::integer[])
        and (owner is null or owner = $2 or lease_until <= {NOW}) order by partition for update {{waiting}})
    update position set owner = $2, epoch = epoch + 1, lease_until = {NOW} + $3,
        backend = case when $4::boolean then pg_backend_pid() end,
        backend_since = case when $4::boolean then {_MY_BACKEND} end
    from free where position.partition = free.partition
    returning position.partition, next, epoch, first_offset, last_offset, last_hash"""
_HELD: Final = """with held as (select partition from position
        join unnest($1::integer[], $2::bigint[]) as mine (partition, epoch) using (partition, epoch)
        where owner = $3 order by partition for update of position)"""
_RENEW: Final = f"""{_HELD} update position set lease_until = {NOW} + $4,
        backend = case when $5::boolean then pg_backend_pid() end,
        backend_since = case when $5::boolean then {_MY_BACKEND} end
    from held where position.partition = held.partition returning position.partition"""
_RELEASE: Final = f"""{_HELD} update position set owner = null, lease_until = 0, backend = null, backend_since = null
    from held where position.partition = held.partition"""
_END_FROZEN: Final = f"""select distinct pg_terminate_backend(a.pid, 2000) from position as p
    join pg_stat_activity as a on a.pid = p.backend and a.backend_start = p.backend_since
    where p.partition = any($1::integer[]) and a.pid <> pg_backend_pid() and a.xact_start is not null
        and (p.owner = $2
            or p.lease_until <= {NOW} and a.xact_start < clock_timestamp() - make_interval(secs => $3))"""
_IDENTITY: Final = """select schema_version, cluster_id, topic, partitions, fold_version, settings_hash,
    (select n from generation as g where (g.fold_version, g.settings_hash) = (meta.fold_version, meta.settings_hash)) as n
    from meta"""


async def claim(
    session: Session, owner: str, partitions: Mapping[int, int], *, lease_ms: int, takeover: float
) -> dict[int, Lease]:
    """As the port says. A row that stays locked is let be, after whoever froze with it was ended where that was due."""
    wanted = sorted(partitions)
    async with session.writing():
        await session.connection.execute(_BEGIN, wanted, [partitions[which] for which in wanted])
    try:
        async with session.writing(lock=CLAIM_LOCK_SECONDS):
            rows = await _claim(session, owner, wanted, lease_ms=lease_ms)
    except LockNotAvailableError:
        async with session.glancing():
            await session.connection.fetch(_END_FROZEN, wanted, owner, takeover)
        async with session.writing():
            rows = await _claim(session, owner, wanted, lease_ms=lease_ms, waiting="skip locked")
    return {row[0]: _lease(row) for row in rows}


async def _claim(session: Session, owner: str, wanted: list[int], *, lease_ms: int, waiting: str = "") -> list[Record]:
    statement = _CLAIM.format(waiting=waiting)
    return await session.connection.fetch(statement, wanted, owner, lease_ms, not session.database.pooled)


def _lease(row: Record) -> Lease:
    partition, position, epoch, first, last, last_hash = row
    return Lease(
        partition=partition,
        position=position,
        epoch=epoch,
        first_offset=first,
        last_offset=last,
        last_hash=last_hash,
    )


async def renew(session: Session, owner: str, leases: Mapping[int, Lease], *, lease_ms: int) -> set[int]:
    async with session.writing():
        held = _named(leases), owner, lease_ms, not session.database.pooled
        rows = await session.connection.fetch(_RENEW, *held[0], *held[1:])
    return {partition for (partition,) in rows}


async def release(session: Session, owner: str, leases: Mapping[int, Lease]) -> None:
    async with session.writing():
        await session.connection.execute(_RELEASE, *_named(leases), owner)


def _named(leases: Mapping[int, Lease]) -> tuple[list[int], list[int]]:
    return list(leases), [lease.epoch for lease in leases.values()]


async def read_identity(session: Session) -> StoreIdentity:
    async with session.glancing():
        identity, _ = await _identity(session)
    return identity


async def bind(session: Session, owner: StoreIdentity, *, compatible: Sequence[int]) -> int:
    """Check, tie a fresh store to its owner, and return the number of the generation that writes from now on."""
    async with session.glancing():
        identity, number = await _identity(session)
    if number is not None and replace(identity, schema_version=owner.schema_version) == owner:
        return number
    async with session.writing():
        await lock_schema(session)
        identity, _ = await _identity(session)
        check_owner(identity, owner, compatible=compatible)
        await session.connection.execute(
            "update meta set cluster_id = $1, topic = $2, partitions = $3, fold_version = $4, settings_hash = $5",
            stored_text(owner.cluster_id or ""),
            stored_text(owner.topic or ""),
            owner.partitions,
            owner.fold_version,
            owner.settings_hash,
        )
        await session.connection.execute(
            f"insert into generation (fold_version, settings_hash, since) values ($1, $2, {NOW}) on conflict do nothing",
            owner.fold_version,
            owner.settings_hash,
        )
        _, number = await _identity(session)
    assert number is not None
    return number


async def _identity(session: Session) -> tuple[StoreIdentity, int | None]:
    row = await session.connection.fetchrow(_IDENTITY)
    assert row is not None
    version, cluster_id, topic, partitions, fold_version, settings_hash, number = row
    identity = StoreIdentity(
        schema_version=version,
        cluster_id=None if cluster_id is None else told_text(cluster_id),
        topic=None if topic is None else told_text(topic),
        partitions=partitions,
        fold_version=fold_version,
        settings_hash=settings_hash,
    )
    return identity, number


async def read_partitions(session: Session) -> list[PartitionStatus]:
    async with session.glancing():
        rows = await session.connection.fetch(
            """select partition, next, epoch, owner, lease_until, first_offset, committed_at, without_usage, outcome, count
                from position left join tally using (partition) order by partition, outcome"""
        )
    tallies: dict[int, dict[str, int]] = defaultdict(dict)
    told = {row["partition"]: row for row in rows}
    for row in rows:
        if row["outcome"] is not None:
            tallies[row["partition"]][row["outcome"]] = row["count"]
    return [
        PartitionStatus(
            partition=partition,
            position=row["next"],
            epoch=row["epoch"],
            owner=row["owner"],
            lease_until=row["lease_until"],
            first_offset=row["first_offset"],
            tally=tallies[partition],
            committed_at=row["committed_at"],
            without_usage=row["without_usage"],
        )
        for partition, row in told.items()
    ]


async def write_note(session: Session, note: Note) -> None:
    """A note stands for itself: written again, the newer one counts."""
    async with session.writing():
        await session.connection.execute(
            """insert into note values ($1, $2, $3, $4, $5) on conflict (partition, log_offset, kind) do update
                set reason = excluded.reason, noted_at = excluded.noted_at""",
            *(note.partition, note.offset, note.kind, stored_text(note.reason), note.noted_at),
        )


async def read_notes(session: Session) -> list[Note]:
    async with session.glancing():
        rows = await session.connection.fetch(
            "select partition, log_offset, kind, reason, noted_at from note order by partition, log_offset, kind"
        )
    return [
        Note(partition=partition, offset=offset, kind=kind, reason=told_text(reason), noted_at=noted_at)
        for partition, offset, kind, reason, noted_at in rows
    ]
