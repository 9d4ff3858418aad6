"""Stores beside a SQLite store: files in its folder, and the link that makes one of them the live one.

The first file keeps its name and stays the one that everybody opens; see :mod:`runfold.store.sqlite_links`. What may change
here is how files are named and found; that a file's name is never given again is what connections stand on that somebody
may still have open.
"""

from __future__ import annotations

import asyncio
import glob
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from runfold.store import sqlite_leases
from runfold.store.port import Lease, StalePosition, Store, StoreError, StoreRefused, StoreUnreachable
from runfold.store.rows import lease_of
from runfold.store.serve_lock import pid_lock
from runfold.store.shadows import CARRIED, FORMER, LEFT, LIVE, SHADOW, Standing
from runfold.store.sqlite import SqliteStore
from runfold.store.sqlite_connection import MAKE, NOW, READ, WRITE, connect, transaction
from runfold.store.sqlite_errors import translated
from runfold.store.sqlite_links import ITSELF, Place, live_transaction, open_live, place_of, set_link
from runfold.store.sqlite_schema import check_readable, drop_late_indexes, make_late_indexes, migrate

_MIDDLE: Final = ".rebuild-"
_BESIDES: Final = ("", "-wal", "-shm")
_HOLD: Final = f"""update position set owner = ?, epoch = epoch + 1, lease_until = {NOW} + ?
    returning partition, next, epoch, first_offset, last_offset, last_hash"""


class SqliteShadows:
    """See :class:`runfold.store.shadows.Shadows`. ``path`` is the store's, as RUNFOLD_STORE names it."""

    def __init__(self, path: Path) -> None:
        self._root = place_of(path)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        root = self._root.path
        with pid_lock(
            root.with_name(f"{root.name}.rebuild.lock"),
            lambda pid: f"the store {root} (RUNFOLD_STORE) is being rebuilt by process {pid}: one rebuild at a time",
        ):
            yield

    async def standing(self) -> list[Standing]:
        return await asyncio.to_thread(self._standing)

    async def make(self, *, scope: str) -> str:
        return await asyncio.to_thread(self._make, scope)

    def opened(self, name: str) -> Store:
        turn = self._beside(f"{self._root.path.name}.rebuild.turn")
        return SqliteStore(self._beside(name), arrived=ITSELF, turn=turn)

    async def complete(self, name: str) -> None:
        await asyncio.to_thread(self._complete, name)

    async def hold(self, owner: str, *, lease: float) -> dict[int, Lease]:
        return await asyncio.to_thread(self._hold, owner, round(lease * 1000))

    async def release(self, owner: str, held: Mapping[int, Lease]) -> None:
        await asyncio.to_thread(self._release, owner, held)

    async def exchange(self, name: str, held: Mapping[int, Lease]) -> None:
        await asyncio.to_thread(self._exchange, name, held)

    async def drop(self, name: str) -> None:
        await asyncio.to_thread(self._drop, name)

    def _beside(self, name: str) -> Path:
        return self._root.path.with_name(name)

    @contextmanager
    def _live(self, *, mode: str = WRITE) -> Iterator[tuple[sqlite3.Connection, Place]]:
        if not self._root.path.exists():
            raise StoreUnreachable(f"there is no store {self._root.path} (RUNFOLD_STORE) yet: `runfold serve` makes it")
        db, place = open_live(self._root, mode=mode)
        with closing(db), translated(place.path):
            check_readable(db, place.path)
            yield db, place

    @contextmanager
    def _itself(self, name: str, *, mode: str = WRITE) -> Iterator[sqlite3.Connection]:
        path = self._beside(name)
        with translated(path), closing(connect(path, mode=mode)) as db:
            yield db

    def _standing(self) -> list[Standing]:
        with self._live(mode=READ) as (db, place):
            (former,) = db.execute("select former from standing").fetchone()
        names = [self._root.path.name, *sorted(path.name for path in self._files())]
        found = [self._told(name, live=place, former=former) for name in names]
        return sorted(filter(None, found), key=lambda each: each.role != LIVE)

    def _files(self) -> Iterator[Path]:
        name = glob.escape(f"{self._root.path.name}{_MIDDLE}")
        for path in self._root.path.parent.glob(f"{name}*"):
            if not path.name.endswith(_BESIDES[1:]):
                yield path

    def _told(self, name: str, *, live: Place, former: str | None) -> Standing | None:
        """None for the first file where nothing is left in it but its link. One that was not finished being made is LEFT."""
        number, scope, served = 0, None, True
        with self._itself(name, mode=READ) as db:
            if db.execute("select count(*) from sqlite_master where name in ('standing', 'run')").fetchone()[0] == 2:
                number, scope, served = db.execute(
                    "select number, scope, scope is null or number > 0 from standing"
                ).fetchone()
            elif name == self._root.path.name:
                return None
        if name == live.path.name:
            role, number = LIVE, live.arrived
        else:
            role = FORMER if name == former else LEFT if served else SHADOW
        size = sum(path.stat().st_size for end in _BESIDES if (path := self._beside(name + end)).exists())
        return Standing(name=name, role=role, scope=scope, number=number, size=size)

    def _make(self, scope: str) -> str:
        name = f"{self._root.path.name}{_MIDDLE}{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
        with self._itself(name, mode=MAKE) as db:
            migrate(db, self._beside(name))
            with transaction(db):
                db.execute("update standing set scope = ?", (scope,))
            drop_late_indexes(db)
        return name

    def _complete(self, name: str) -> None:
        with self._itself(name) as db:
            make_late_indexes(db)
            _put_on_disk(db, self._beside(name))

    def _hold(self, owner: str, lease_ms: int) -> dict[int, Lease]:
        with self._live() as (db, _), live_transaction(db):
            return {row[0]: lease_of(row) for row in db.execute(_HOLD, (owner, lease_ms)).fetchall()}

    def _release(self, owner: str, held: Mapping[int, Lease]) -> None:
        with self._live() as (db, _):
            sqlite_leases.release(db, owner, held)

    def _exchange(self, name: str, held: Mapping[int, Lease]) -> None:
        """Superseding the live file.

        1. The successor is made ready: its epochs above all that the live one gave, its partitions free, its former named,
           all of it on the disk. Nobody looks at it yet.
        2. One transaction in the live file: that the partitions are still held, and that both files stand at the same
           positions and have the same notes, is seen under its write lock; the tables CARRIED are copied, and its link is
           set. This is the switch:
           whoever comes later, reads the link and goes on in the successor; before it nothing has happened.
        3. The first file's link is made to lead straight to the live one, so that those between may be dropped. Where a
           crash prevents it, the longer way leads there too, and the next switch or drop does it.
        """
        with self._live() as (db, place):
            db.execute("pragma synchronous = full")
            with self._itself(name) as successor:
                _make_ready(successor, held, former=place.path.name)
                _put_on_disk(successor, self._beside(name))
                with live_transaction(db):
                    _check_held(db, held)
                    _check_same(db, successor)
                    _carry(db, successor)
                    db.execute("update position set owner = null, lease_until = 0")  # for those who go back to it
                    set_link(db, name, place.arrived + 1)
        with suppress(StoreError):
            self._shorten()

    def _shorten(self) -> None:
        live = self._live_place()
        with self._itself(self._root.path.name) as db, transaction(db):
            set_link(db, None if live.path == self._root.path else live.path.name, live.arrived)

    def _live_place(self) -> Place:
        with self._live(mode=READ) as (_, place):
            return place

    def _drop(self, name: str) -> None:
        standing = {each.name: each.role for each in self._standing()}
        if standing.get(name, LIVE) == LIVE:
            raise StoreRefused(
                f"{name} is {'the live store' if name in standing else 'no store'} beside {self._root.path}"
            )
        self._shorten()
        if name == self._root.path.name:
            self._empty_first()
            return
        for end in _BESIDES:
            self._beside(name + end).unlink(missing_ok=True)

    def _empty_first(self) -> None:
        """The first file is where everybody begins: its rows go, and its link stays."""
        with self._itself(self._root.path.name) as db:
            with transaction(db):
                for (table,) in db.execute("select name from sqlite_master where type = 'table'").fetchall():
                    if table != "standing":
                        db.execute(f"drop table {table}")
            db.execute("vacuum")
            db.execute("pragma wal_checkpoint(truncate)")


def _make_ready(db: sqlite3.Connection, held: Mapping[int, Lease], *, former: str) -> None:
    with transaction(db):
        for partition, lease in held.items():
            db.execute("update position set epoch = max(epoch, ?) + 1 where partition = ?", (lease.epoch, partition))
        db.execute("update position set owner = null, lease_until = 0")
        db.execute("update standing set former = ?", (former,))


def _check_held(db: sqlite3.Connection, held: Mapping[int, Lease]) -> None:
    epochs = dict(db.execute("select partition, epoch from position").fetchall())
    if epochs != {partition: lease.epoch for partition, lease in held.items()}:
        raise StalePosition("a partition was taken again before the stores could be exchanged: nothing was switched")


def _check_same(live: sqlite3.Connection, successor: sqlite3.Connection) -> None:
    statement = "select partition, next from position"
    here, there = (dict(db.execute(statement).fetchall()) for db in (live, successor))
    if any(there.get(partition) != position for partition, position in here.items()):
        raise StalePosition("the rebuilt store does not stand where the live one does: nothing was switched")
    kept = sqlite_leases.read_notes(successor)
    if any(note not in kept for note in sqlite_leases.read_notes(live)):
        raise StalePosition("a note was added to the live store meanwhile: nothing was switched")


def _carry(live: sqlite3.Connection, successor: sqlite3.Connection) -> None:
    with transaction(successor):
        for table in CARRIED:
            rows = live.execute(f"select * from {table}").fetchall()
            successor.execute(f"delete from {table}")
            if rows:
                successor.executemany(f"insert into {table} values ({', '.join('?' * len(rows[0]))})", rows)


def _put_on_disk(db: sqlite3.Connection, path: Path) -> None:
    """Everything committed so far, and the file's name in its folder."""
    db.execute("pragma synchronous = full")
    db.execute("pragma wal_checkpoint(truncate)")
    for each in (path, path.with_name(f"{path.name}-wal"), path.parent):
        if each.exists():
            descriptor = os.open(each, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
