"""What has befallen the log of a PostgreSQL store, and what people decided about it: lost ranges, and partitions added."""

from __future__ import annotations

from typing import Final

from runfold.store.identity import check_growth
from runfold.store.port import Growth, LostRange, StalePosition
from runfold.store.postgres_connection import NOW, Session
from runfold.store.postgres_leases import read_own_identity
from runfold.store.postgres_schema import lock_schema

_NOTE: Final = """insert into lost_range values ($1, $2, $3, $4, null) on conflict (partition, first) do update
    set following = greatest(lost_range.following, excluded.following) where lost_range.accepted_at is null"""
_ACCEPT: Final = f"""insert into lost_range values ($1, $2, $3, $4, {NOW}) on conflict (partition, first) do update
    set following = excluded.following, accepted_at = excluded.accepted_at"""


async def accept_growth(session: Session, growth: Growth) -> None:
    async with session.writing():
        await lock_schema(session)
        check_growth(await read_own_identity(session), growth)
        await session.connection.execute("update meta set partitions = $1", growth.partitions)
        await session.connection.execute(
            "insert into growth values ($1, $2, $3, $4)",
            *(growth.partitions, growth.before, growth.open_runs, growth.accepted_at),
        )


async def read_growths(session: Session) -> list[Growth]:
    async with session.glancing():
        rows = await session.connection.fetch(
            "select partitions, before, open_runs, accepted_at from growth order by partitions"
        )
    return [
        Growth(partitions=partitions, before=before, open_runs=open_runs, accepted_at=accepted_at)
        for partitions, before, open_runs, accepted_at in rows
    ]


async def note_loss(session: Session, lost: LostRange) -> None:
    async with session.writing():
        await session.connection.execute(_NOTE, lost.partition, lost.begin, lost.end, lost.noticed_at)


async def accept_loss(session: Session, lost: LostRange) -> None:
    async with session.writing():
        done = await session.connection.execute(
            "update position set next = $1, epoch = epoch + 1 where partition = $2 and next = $3",
            *(lost.end, lost.partition, lost.begin),
        )
        if done != "UPDATE 1":
            raise StalePosition(f"partition {lost.partition} is no longer at {lost.begin}: nothing was written")
        await session.connection.execute(_ACCEPT, lost.partition, lost.begin, lost.end, lost.noticed_at)


async def read_lost_ranges(session: Session) -> list[LostRange]:
    async with session.glancing():
        rows = await session.connection.fetch(
            "select partition, first, following, noticed_at, accepted_at from lost_range order by partition, first"
        )
    return [
        LostRange(partition=partition, begin=begin, end=end, noticed_at=noticed_at, accepted_at=accepted_at)
        for partition, begin, end, noticed_at, accepted_at in rows
    ]
