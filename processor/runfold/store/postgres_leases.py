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
from typing import Final, NamedTuple

from asyncpg import Record
from msgspec.structs import astuple, replace

from runfold.store.claims import ClaimedRow
from runfold.store.identity import check_owner
from runfold.store.port import ClaimHistory, Lease, Note, PartitionStatus, StalePosition, StoreIdentity
from runfold.store.postgres_connection import NOW, Session
from runfold.store.postgres_events import columns_of
from runfold.store.postgres_rows import stored_text, told_text
from runfold.store.postgres_schema import lock_schema
from runfold.store.postgres_workers import announce
from runfold.store.snapshot import Row

TAKEOVER_SECONDS: Final = 5.0
"""A transaction of an owner whose lease has run out is ended when it is older than this and stands in the way."""

_MY_BACKEND: Final = "(select backend_start from pg_stat_activity where pid = pg_backend_pid())"
_BEGIN: Final = """insert into position (partition, next, epoch, lease_until, first_offset)
    select partition, begin, 0, 0, begin from unnest($1::integer[], $2::bigint[]) as given (partition, begin)
    where not exists (select from position as known where known.partition = given.partition)
    order by partition on conflict do nothing"""
HISTORY: Final = "takeovers, stalled, claimed_at, trial, suspect, deaths"
# A row that another transaction has in hand is not waited for: its owner lives, or has to be ended first.
_FOUND: Final = f"""select partition, next, epoch, owner, lease_until, first_offset, last_offset, last_hash,
        {HISTORY}, {NOW} as now
    from position where partition = any($1::integer[]) order by partition for update skip locked"""
_CLAIM: Final = f"""update position set owner = $1, epoch = new.epoch, lease_until = {NOW} + $2,
        backend = case when $3::boolean then pg_backend_pid() end,
        backend_since = case when $3::boolean then {_MY_BACKEND} end,
        ({HISTORY}) = row (new.takeovers, new.stalled, new.claimed_at, new.trial, new.suspect, new.deaths)
    from unnest($4::integer[], $5::bigint[], $6::bigint[], $7::integer[], $8::bigint[], $9::bigint[], $10::bigint[],
        $11::integer[]) as new (partition, epoch, takeovers, stalled, claimed_at, trial, suspect, deaths)
    where position.partition = new.partition"""
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
# Where their transactions are in the way: expired leases, and those of the owner itself.
_TO_BE_HAD: Final = f"""select exists (select from position where partition = any($1::integer[])
    and (owner is null or owner = $2 or lease_until <= {NOW}))"""
_IDENTITY: Final = """select schema_version, cluster_id, topic, partitions, fold_version, settings_hash,
    (select n from generation as g where (g.fold_version, g.settings_hash) = (meta.fold_version, meta.settings_hash)) as n,
    switched from meta"""
_SWITCHED: Final = "select switched from meta"


class Bound(NamedTuple):
    """The generation that writes, and of which store's making it is: the number of the switch that made it the live one."""

    fold: int
    switched: int


class Claimed(NamedTuple):
    """What was claimed, in the store that this switch made the live one."""

    leases: dict[int, Lease]
    switched: int


async def claim(
    session: Session, owner: str, partitions: Mapping[int, int], *, lease_ms: int, takeover: float
) -> Claimed:
    """As the port says. A row that others keep locked is let be, after whoever froze with it was ended where that was due."""
    wanted = sorted(partitions)
    async with session.writing():
        await session.connection.execute(_BEGIN, wanted, [partitions[which] for which in wanted])
    claimed = await _claim(session, owner, wanted, lease_ms=lease_ms)
    if missing := [which for which in wanted if which not in claimed.leases]:
        async with session.glancing():
            locked = await session.connection.fetchval(_TO_BE_HAD, missing, owner)
        if locked:
            async with session.glancing():
                await session.connection.fetch(_END_FROZEN, missing, owner, takeover)
            late = await _claim(session, owner, missing, lease_ms=lease_ms)
            claimed = Claimed(claimed.leases | late.leases, late.switched)
    return claimed


async def _claim(session: Session, owner: str, wanted: list[int], *, lease_ms: int) -> Claimed:
    async with session.writing():
        found = [_told(row) for row in await session.connection.fetch(_FOUND, wanted)]
        leases = {row.partition: row.claimed_by(owner) for row, now in found if row.may_go_to(owner, now=now)}
        if leases:
            rows = [(lease.partition, lease.epoch, *astuple(lease.history)) for lease in leases.values()]
            columns = columns_of(list[Row](rows))
            await session.connection.execute(_CLAIM, owner, lease_ms, not session.database.pooled, *columns)
        return Claimed(leases, await session.connection.fetchval(_SWITCHED))


def _told(row: Record) -> tuple[ClaimedRow, int]:
    """A row of _FOUND, and the store's time."""
    found = ClaimedRow(
        partition=row["partition"],
        position=row["next"],
        epoch=row["epoch"],
        owner=row["owner"],
        lease_until=row["lease_until"],
        first_offset=row["first_offset"],
        last_offset=row["last_offset"],
        last_hash=row["last_hash"],
        history=history_of(row),
    )
    return found, row["now"]


def history_of(row: Record) -> ClaimHistory:
    """What stands in the columns HISTORY."""
    return ClaimHistory(**{name: row[name] for name in ClaimHistory.__struct_fields__})


async def renew(session: Session, owner: str, leases: Mapping[int, Lease], *, lease_ms: int) -> set[int]:
    async with session.writing():
        await announce(session, owner, lease_ms=lease_ms)
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


async def read_own_identity(session: Session) -> StoreIdentity:
    """As :func:`read_identity`, in a transaction of the caller's."""
    return (await _identity(session))[0]


async def bind(session: Session, owner: StoreIdentity, *, compatible: Sequence[int]) -> Bound:
    """Check, tie a fresh store to its owner, and return the generation that writes from now on."""
    async with session.glancing():
        identity, bound = await _identity(session)
    if bound is not None and replace(identity, schema_version=owner.schema_version) == owner:
        return bound
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
        _, bound = await _identity(session)
    assert bound is not None
    return bound


async def check_switched(session: Session, switched: int) -> None:
    """Raise StalePosition where another store is the live one now: what is known of keys is not of this one."""
    if await session.connection.fetchval(_SWITCHED) != switched:
        raise StalePosition("another store was switched to since this one was bound: nothing was written")


async def _identity(session: Session) -> tuple[StoreIdentity, Bound | None]:
    row = await session.connection.fetchrow(_IDENTITY)
    assert row is not None
    version, cluster_id, topic, partitions, fold_version, settings_hash, number, switched = row
    identity = StoreIdentity(
        schema_version=version,
        cluster_id=None if cluster_id is None else told_text(cluster_id),
        topic=None if topic is None else told_text(topic),
        partitions=partitions,
        fold_version=fold_version,
        settings_hash=settings_hash,
    )
    return identity, None if number is None else Bound(number, switched)


async def read_partitions(session: Session) -> list[PartitionStatus]:
    async with session.glancing():
        rows = await session.connection.fetch(
            f"""select partition, next, epoch, owner, lease_until, first_offset, committed_at, without_usage, outcome, count,
                {HISTORY}
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
            history=history_of(row),
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


async def remove_note(session: Session, note: Note) -> None:
    async with session.writing():
        await session.connection.execute(
            "delete from note where partition = $1 and log_offset = $2 and kind = $3",
            *(note.partition, note.offset, note.kind),
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
