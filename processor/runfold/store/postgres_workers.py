"""Who works on the PostgreSQL store: workers that say they are alive, and what is known of those who no longer are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from runfold.store.port import Crew, Lease, Seat, StalePosition, WorkerStatus
from runfold.store.postgres_connection import NOW, Session

_ANNOUNCE: Final = f"""insert into worker values ($1, {NOW}, {NOW}, {NOW} + $2) on conflict (owner) do update
    set seen_at = excluded.seen_at, alive_until = excluded.alive_until"""
# A worker that fell silent is of interest for as long as it has partitions that nobody took over. Rows that somebody else
# is deleting are left to him: two who waited for each other would be a deadlock.
_FORGET: Final = f"""delete from worker where owner in (select owner from worker where alive_until <= {NOW}
    and not exists (select from position where position.owner = worker.owner) for update skip locked)"""
_CREW: Final = f"""select partition, case when lease_until > {NOW} then owner end as holder, next as position from position
    union all select null, owner, null from worker where alive_until > {NOW} order by 1"""
_OF: Final = "select partition from position where owner = any($1::text[]) order by partition for update"
_LEAVE: Final = f"""with mine as ({_OF}) update position set owner = null, lease_until = 0, backend = null, backend_since = null
    from mine where position.partition = mine.partition"""
_BURY: Final = f"""with dead as ({_OF} skip locked) update position set lease_until = 0
    from dead where position.partition = dead.partition"""


async def announce(session: Session, owner: str, *, lease_ms: int) -> None:
    """Say that ``owner`` is alive, in a transaction of the caller's."""
    await session.connection.execute(_ANNOUNCE, owner, lease_ms)
    await session.connection.execute(_FORGET)


async def read_crew(session: Session) -> Crew:
    async with session.glancing():
        rows = await session.connection.fetch(_CREW)
    return Crew(
        alive=frozenset(holder for partition, holder, _ in rows if partition is None),
        seats={
            partition: Seat(owner=holder, position=position)
            for partition, holder, position in rows
            if partition is not None
        },
    )


async def read_workers(session: Session) -> list[WorkerStatus]:
    async with session.glancing():
        rows = await session.connection.fetch(
            f"""select owner, since, seen_at, alive_until from worker where alive_until > {NOW}
                or exists (select from position where position.owner = worker.owner) order by since, owner"""
        )
    return [
        WorkerStatus(owner=owner, since=since, seen_at=seen_at, alive_until=alive_until)
        for owner, since, seen_at, alive_until in rows
    ]


async def leave(session: Session, owner: str) -> None:
    async with session.writing():
        await session.connection.execute(_LEAVE, [owner])
        await session.connection.execute("delete from worker where owner = $1", owner)


async def bury(session: Session, owners: Sequence[str]) -> None:
    """Owners stay named, so that whoever claims next is seen to take over, and ends their backend where that is due.

    Rows that a dead owner's transaction still keeps locked are let be: their leases end by themselves.
    """
    async with session.writing():
        await session.connection.execute(_BURY, list(owners))
        await session.connection.execute("delete from worker where owner = any($1::text[])", list(owners))


async def begin_trial(session: Session, lease: Lease, offset: int) -> None:
    async with session.writing():
        done = await session.connection.execute(
            "update position set trial = $1 where partition = $2 and epoch = $3", offset, lease.partition, lease.epoch
        )
        if done != "UPDATE 1":
            raise StalePosition(f"partition {lease.partition} is no longer held in epoch {lease.epoch}")
