"""Who may fold which partition, and whose store this is: the small rows of the SQLite store.

Leases only balance. What keeps two owners from writing is the compare of position and epoch in every transaction, so a
lease may safely run out under a working owner. Their clock is SQLite's, which everybody who shares the file shares.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec.structs import astuple

from runfold.store.claims import ClaimedRow
from runfold.store.identity import check_owner
from runfold.store.port import ClaimHistory, Lease, Note, PartitionStatus, StoreIdentity
from runfold.store.sqlite_connection import NOW
from runfold.store.sqlite_links import live_transaction
from runfold.store.sqlite_schema import schema_version
from runfold.store.sqlite_workers import announce

_BEGIN: Final = """insert into position (partition, next, epoch, lease_until, first_offset)
    values (?1, ?2, 0, 0, ?2) on conflict do nothing"""
HISTORY: Final = "takeovers, stalled, claimed_at, trial, suspect, deaths"
_FOUND: Final = f"""select partition, next, epoch, owner, lease_until, first_offset, last_offset, last_hash, {HISTORY}
    from position where partition = ?"""
_CLAIM: Final = f"""update position set owner = ?, epoch = ?, lease_until = {NOW} + ?, ({HISTORY}) = (?, ?, ?, ?, ?, ?)
    where partition = ?"""
_RENEW: Final = f"update position set lease_until = {NOW} + ? where partition = ? and owner = ? and epoch = ?"
_RELEASE: Final = "update position set owner = null, lease_until = 0 where partition = ? and owner = ? and epoch = ?"


def claim(db: sqlite3.Connection, owner: str, partitions: Mapping[int, int], *, lease_ms: int) -> dict[int, Lease]:
    leases = {}
    with live_transaction(db):
        (now,) = db.execute(f"select {NOW}").fetchone()
        for partition, begin in sorted(partitions.items()):
            db.execute(_BEGIN, (partition, begin))
            found = _told(db.execute(_FOUND, (partition,)).fetchone())
            if found.may_go_to(owner, now=now):
                lease = leases[partition] = found.claimed_by(owner)
                db.execute(_CLAIM, (owner, lease.epoch, lease_ms, *astuple(lease.history), partition))
    return leases


def _told(row: tuple[Any, ...]) -> ClaimedRow:
    partition, position, epoch, owner, lease_until, first, last, last_hash, *history = row
    return ClaimedRow(
        partition=partition,
        position=position,
        epoch=epoch,
        owner=owner,
        lease_until=lease_until,
        first_offset=first,
        last_offset=last,
        last_hash=last_hash,
        history=history_of(history),
    )


def history_of(columns: Sequence[Any]) -> ClaimHistory:
    """What stands in the columns HISTORY."""
    return ClaimHistory(**dict(zip(ClaimHistory.__struct_fields__, columns, strict=True)))


def renew(db: sqlite3.Connection, owner: str, leases: Mapping[int, Lease], *, lease_ms: int) -> set[int]:
    with live_transaction(db):
        announce(db, owner, lease_ms=lease_ms)
        return {
            partition
            for partition, lease in sorted(leases.items())
            if db.execute(_RENEW, (lease_ms, partition, owner, lease.epoch)).rowcount
        }


def release(db: sqlite3.Connection, owner: str, leases: Mapping[int, Lease]) -> None:
    with live_transaction(db):
        db.executemany(_RELEASE, [(partition, owner, lease.epoch) for partition, lease in sorted(leases.items())])


def read_identity(db: sqlite3.Connection) -> StoreIdentity:
    row = db.execute("select cluster_id, topic, partitions, fold_version, settings_hash from meta").fetchone()
    cluster_id, topic, partitions, fold_version, settings_hash = row or (None,) * 5
    return StoreIdentity(
        schema_version=schema_version(db),
        cluster_id=cluster_id,
        topic=topic,
        partitions=partitions,
        fold_version=fold_version,
        settings_hash=settings_hash,
    )


def bind(db: sqlite3.Connection, owner: StoreIdentity, *, compatible: Sequence[int]) -> int:
    """Check, tie a fresh store to its owner, and return the number of the generation that writes from now on."""
    generation = (owner.fold_version, owner.settings_hash)
    with live_transaction(db):
        check_owner(read_identity(db), owner, compatible=compatible)
        db.execute(
            "insert or replace into meta values (1, ?, ?, ?, ?, ?)",
            (owner.cluster_id, owner.topic, owner.partitions, *generation),
        )
        db.execute(
            f"insert into generation (fold_version, settings_hash, since) values (?, ?, {NOW}) on conflict do nothing",
            generation,
        )
        (number,) = db.execute(
            "select n from generation where fold_version = ? and settings_hash = ?", generation
        ).fetchone()
    return int(number)


def read_partitions(db: sqlite3.Connection) -> list[PartitionStatus]:
    tallies: dict[int, dict[str, int]] = defaultdict(dict)
    for partition, outcome, count in db.execute("select partition, outcome, count from tally"):
        tallies[partition][outcome] = count
    rows = db.execute(
        f"""select partition, next, epoch, owner, lease_until, first_offset, committed_at, without_usage, {HISTORY}
            from position order by partition"""
    )
    return [
        PartitionStatus(
            partition=partition,
            position=position,
            epoch=epoch,
            owner=owner,
            lease_until=lease_until,
            first_offset=first_offset,
            tally=tallies[partition],
            committed_at=committed_at,
            without_usage=without_usage,
            history=history_of(history),
        )
        for partition, position, epoch, owner, lease_until, first_offset, committed_at, without_usage, *history in rows
    ]


def read_notes(db: sqlite3.Connection) -> list[Note]:
    rows = db.execute("select partition, offset, kind, reason, noted_at from note order by partition, offset, kind")
    return [
        Note(partition=partition, offset=offset, kind=kind, reason=reason, noted_at=noted_at)
        for partition, offset, kind, reason, noted_at in rows
    ]
