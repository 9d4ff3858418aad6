"""Who works on the SQLite store: workers that say that they are alive, and what is known of those who no longer are."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from runfold.store.port import Crew, Lease, Seat, StalePosition, WorkerStatus
from runfold.store.sqlite_connection import NOW, transaction

_ANNOUNCE: Final = f"""insert into worker values (?1, {NOW}, {NOW}, {NOW} + ?2) on conflict do update
    set seen_at = excluded.seen_at, alive_until = excluded.alive_until"""
# A worker that fell silent is of interest for as long as it has partitions that nobody took over.
_FORGET: Final = f"""delete from worker where alive_until <= {NOW}
    and owner not in (select owner from position where owner is not null)"""


def announce(db: sqlite3.Connection, owner: str, *, lease_ms: int) -> None:
    """Say that ``owner`` is alive, in a transaction of the caller's."""
    db.execute(_ANNOUNCE, (owner, lease_ms))
    db.execute(_FORGET)


def read_crew(db: sqlite3.Connection) -> Crew:
    rows = db.execute(
        f"select partition, case when lease_until > {NOW} then owner end, next from position order by partition"
    )
    seats = {partition: Seat(owner=owner, position=position) for partition, owner, position in rows}
    alive = {owner for (owner,) in db.execute(f"select owner from worker where alive_until > {NOW}")}
    return Crew(alive=frozenset(alive), seats=seats)


def read_workers(db: sqlite3.Connection) -> list[WorkerStatus]:
    rows = db.execute(
        f"""select owner, since, seen_at, alive_until from worker
            where alive_until > {NOW} or owner in (select owner from position) order by since, owner"""
    )
    return [
        WorkerStatus(owner=owner, since=since, seen_at=seen_at, alive_until=alive_until)
        for owner, since, seen_at, alive_until in rows
    ]


def leave(db: sqlite3.Connection, owner: str) -> None:
    with transaction(db):
        db.execute("update position set owner = null, lease_until = 0 where owner = ?", (owner,))
        db.execute("delete from worker where owner = ?", (owner,))


def bury(db: sqlite3.Connection, owners: Sequence[str]) -> None:
    """Owners stay named, so that whoever claims next is seen to take over."""
    dead = [(owner,) for owner in owners]
    with transaction(db):
        db.executemany("update position set lease_until = 0 where owner = ?", dead)
        db.executemany("delete from worker where owner = ?", dead)


def bury_all(db: sqlite3.Connection) -> None:
    """For whoever knows that no owner is alive. An epoch that is claimed next still shuts out a zombie."""
    with transaction(db):
        db.execute("update position set lease_until = 0 where owner is not null")
        db.execute("delete from worker")


def begin_trial(db: sqlite3.Connection, lease: Lease, offset: int) -> None:
    with transaction(db):
        held = db.execute(
            "update position set trial = ? where partition = ? and epoch = ?", (offset, lease.partition, lease.epoch)
        )
        if not held.rowcount:
            raise StalePosition(f"partition {lease.partition} is no longer held in epoch {lease.epoch}")
