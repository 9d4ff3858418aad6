"""What has befallen the log of a SQLite store, and what people decided about it: lost ranges, partitions added."""

from __future__ import annotations

import sqlite3
from typing import Final

from runfold.store.identity import check_growth
from runfold.store.port import Growth, LostRange, StalePosition
from runfold.store.sqlite_connection import NOW, transaction
from runfold.store.sqlite_leases import read_identity

_NOTE: Final = """insert into lost_range values (?, ?, ?, ?, null) on conflict do update
    set following = max(following, excluded.following) where accepted_at is null"""
_ACCEPT: Final = f"""insert into lost_range values (?, ?, ?, ?, {NOW}) on conflict do update
    set following = excluded.following, accepted_at = excluded.accepted_at"""


def accept_growth(db: sqlite3.Connection, growth: Growth) -> None:
    with transaction(db):
        check_growth(read_identity(db), growth)
        db.execute("update meta set partitions = ?", (growth.partitions,))
        db.execute(
            "insert into growth values (?, ?, ?, ?)",
            (growth.partitions, growth.before, growth.open_runs, growth.accepted_at),
        )


def read_growths(db: sqlite3.Connection) -> list[Growth]:
    rows = db.execute("select partitions, before, open_runs, accepted_at from growth order by partitions")
    return [
        Growth(partitions=partitions, before=before, open_runs=open_runs, accepted_at=accepted_at)
        for partitions, before, open_runs, accepted_at in rows
    ]


def note_loss(db: sqlite3.Connection, lost: LostRange) -> None:
    with transaction(db):
        db.execute(_NOTE, (lost.partition, lost.begin, lost.end, lost.noticed_at))


def accept_loss(db: sqlite3.Connection, lost: LostRange) -> None:
    with transaction(db):
        moved = db.execute(
            "update position set next = ?, epoch = epoch + 1 where partition = ? and next = ?",
            (lost.end, lost.partition, lost.begin),
        )
        if not moved.rowcount:
            raise StalePosition(f"partition {lost.partition} is no longer at {lost.begin}: nothing was written")
        db.execute(_ACCEPT, (lost.partition, lost.begin, lost.end, lost.noticed_at))


def read_lost_ranges(db: sqlite3.Connection) -> list[LostRange]:
    rows = db.execute(
        "select partition, first, following, noticed_at, accepted_at from lost_range order by partition, first"
    )
    return [
        LostRange(partition=partition, begin=begin, end=end, noticed_at=noticed_at, accepted_at=accepted_at)
        for partition, begin, end, noticed_at, accepted_at in rows
    ]
