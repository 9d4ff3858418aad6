"""Who may fold which partition, and whose store this is: the small rows of the SQLite store.

Leases only balance. What keeps two owners from writing is the compare of position and epoch in every transaction, so a
lease may safely run out under a working owner. Their clock is SQLite's, which everybody who shares the file shares.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from runfold.store.identity import check_owner
from runfold.store.port import Lease, Note, PartitionStatus, StoreIdentity
from runfold.store.sqlite_connection import NOW, transaction
from runfold.store.sqlite_schema import schema_version

_BEGIN: Final = """insert into position (partition, next, epoch, lease_until, first_offset)
    values (?1, ?2, 0, 0, ?2) on conflict do nothing"""
_CLAIM: Final = f"""update position set owner = ?1, epoch = epoch + 1, lease_until = {NOW} + ?2
    where partition = ?3 and (owner is null or owner = ?1 or lease_until <= {NOW})
    returning next, epoch, first_offset, last_offset, last_hash"""
_RENEW: Final = f"update position set lease_until = {NOW} + ? where partition = ? and owner = ? and epoch = ?"
_RELEASE: Final = "update position set owner = null, lease_until = 0 where partition = ? and owner = ? and epoch = ?"


def claim(db: sqlite3.Connection, owner: str, partitions: Mapping[int, int], *, lease_ms: int) -> dict[int, Lease]:
    leases = {}
    with transaction(db):
        for partition, begin in sorted(partitions.items()):
            db.execute(_BEGIN, (partition, begin))
            for position, epoch, first, last, last_hash in db.execute(_CLAIM, (owner, lease_ms, partition)).fetchall():
                leases[partition] = Lease(
                    partition=partition,
                    position=position,
                    epoch=epoch,
                    first_offset=first,
                    last_offset=last,
                    last_hash=last_hash,
                )
    return leases


def renew(db: sqlite3.Connection, owner: str, leases: Mapping[int, Lease], *, lease_ms: int) -> set[int]:
    with transaction(db):
        return {
            partition
            for partition, lease in sorted(leases.items())
            if db.execute(_RENEW, (lease_ms, partition, owner, lease.epoch)).rowcount
        }


def release(db: sqlite3.Connection, owner: str, leases: Mapping[int, Lease]) -> None:
    with transaction(db):
        db.executemany(_RELEASE, [(partition, owner, lease.epoch) for partition, lease in sorted(leases.items())])


def free_all(db: sqlite3.Connection) -> None:
    """End every lease. For whoever knows that no owner is alive: an epoch that is claimed next still shuts out a zombie."""
    with transaction(db):
        db.execute("update position set owner = null, lease_until = 0 where owner is not null")


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
    with transaction(db):
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
        """select partition, next, epoch, owner, lease_until, first_offset, committed_at, without_usage from position
            order by partition"""
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
        )
        for partition, position, epoch, owner, lease_until, first_offset, committed_at, without_usage in rows
    ]


def read_notes(db: sqlite3.Connection) -> list[Note]:
    rows = db.execute("select partition, offset, kind, reason, noted_at from note order by partition, offset, kind")
    return [
        Note(partition=partition, offset=offset, kind=kind, reason=reason, noted_at=noted_at)
        for partition, offset, kind, reason, noted_at in rows
    ]
