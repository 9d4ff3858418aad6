"""A log and a store in one folder, and a plain service between them: what the tests of replay begin with.

The service is the shortest that can be right: fold what is new, apply, settle. Faults are put in by SQL, behind its back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fold_stories import START, usage

from runfold.fold.admit import Decode
from runfold.fold.batch import PartitionFold
from runfold.fold.changes import Changes
from runfold.fold.record import Record
from runfold.fold.rules import COMPATIBLE, DEFAULT_RULES, FOLD_VERSION, Rules
from runfold.log.partitioner import key_hash
from runfold.log.port import Message
from runfold.log.sqlite import SqliteSink, SqliteSource
from runfold.store.digest import StoreDigest, digest
from runfold.store.notes import set_aside_of
from runfold.store.port import Lease
from runfold.store.sqlite import SqliteStore
from runfold_schemas import Event, RunCompleted, RunCreated, RunInProgress, RunUsageCorrected, encode
from runfold_schemas.codec import Codec, decode_lean
from runfold_schemas.lean import LEAN_EVENT_TYPES

NOW = (START + 3_600) * 1000
OLD_CODE = Codec(tuple(kind for kind in LEAN_EVENT_TYPES if kind is not RunCompleted), upcasters=()).decode
"""Reads what was read before ``completed`` was invented."""


class World:
    """``log`` and ``store`` are files in ``folder``; ``source`` reads the log, ``store`` is open for writing."""

    def __init__(self, folder: Path, *, partitions: int = 2, rules: Rules = DEFAULT_RULES) -> None:
        self.folder, self.rules, self.partitions = folder, rules, partitions
        self.log, self.kept = folder / "log.db", folder / "store.db"
        self.workspace = folder / "work"
        self.workspace.mkdir()
        self.sink = SqliteSink(self.log, partitions=partitions, clock=lambda: NOW)
        self.source = SqliteSource(self.log)
        self.store = SqliteStore(self.kept)
        self.leases: dict[int, Lease] = {}

    async def publish(self, *told: Event | Message) -> None:
        await self.sink.append([_message(each) for each in told])

    async def bind(self, store: SqliteStore) -> None:
        log = await self.source.identity()
        await store.bind(
            cluster_id=log.cluster_id,
            topic=log.topic,
            partitions=self.partitions,
            fold_version=FOLD_VERSION,
            compatible=COMPATIBLE,
            settings_hash=self.rules.settings_hash,
        )

    async def serve(self, *, decode: Decode = decode_lean, most: int = 1_000) -> None:
        """Fold everything new into the store, ``most`` records of a partition at a time."""
        await self.serve_into(self.store, decode=decode, most=most)

    async def serve_into(self, store: SqliteStore, *, decode: Decode = decode_lean, most: int = 1_000) -> None:
        await self.bind(store)
        ranges = await self.source.ranges(range(self.partitions))
        self.leases = await store.claim("worker", {which: held.begin for which, held in ranges.items()}, lease=60)
        set_aside = set_aside_of(await store.notes())
        for partition, lease in self.leases.items():
            fold = PartitionFold(partition, rules=self.rules, decode=decode, set_aside=set_aside.get(partition))
            records = await self.read(partition, begin=lease.position)
            for start in range(0, len(records), most):
                await self._commit(store, fold, records[start : start + most])

    async def _commit(self, store: SqliteStore, fold: PartitionFold, records: Sequence[Record]) -> None:
        changes, following = Changes(), records[-1].offset + 1
        rows = await store.load(fold.partition, fold.absent(records))
        fold.take_in((row.run_id, row.handle, row.body) for row in rows.values())
        fold.fold(records, next_position=following, expected=records[0].offset, changes=changes)
        fold.settle(await store.apply(changes, self.leases))

    async def read(self, partition: int, *, begin: int = 0) -> list[Record]:
        return [record async for records in self.source.read(partition, begin=begin, end=2**60) for record in records]

    async def digest(self, store: SqliteStore | None = None) -> StoreDigest:
        snapshot = await (store or self.store).snapshot()
        try:
            return await digest(snapshot)
        finally:
            await snapshot.close()

    async def rebuilt(self) -> StoreDigest:
        """The digest of a store that was made from the log anew, by today's code, heeding the same notes."""
        store = SqliteStore(self.folder / "rebuilt.db")
        await store.open()
        try:
            for note in await self.store.notes():
                await store.add_note(note)
            await self.serve_into(store)
            return await self.digest(store)
        finally:
            await store.close()
            for file in self.folder.glob("rebuilt.db*"):
                file.unlink()

    def spoil(self, statement: str, *values: object) -> int:
        """Change the store's file behind its back; returns how many rows were changed."""
        return _execute(self.kept, statement, values)

    def cut_log(self, statement: str, *values: object) -> int:
        """Change the log's file behind its back."""
        return _execute(self.log, statement, values)


@asynccontextmanager
async def opened(folder: Path, **options: Any) -> AsyncIterator[World]:
    """A world whose log and store are open."""
    world = World(folder, **options)
    await world.sink.start()
    await world.source.start()
    await world.store.open()
    try:
        yield world
    finally:
        await world.store.close()
        await world.source.close()
        await world.sink.close()


def life(run_id: str, *, at: float = 0, tokens: int = 10) -> list[Event]:
    """The three events of a run that goes well, numbered."""

    def common(sequence: int) -> dict[str, Any]:
        named = {"run_id": run_id, "thread_id": f"thread_of_{run_id}", "id": f"e{sequence}"}
        return {**named, "occurred_at": round((START + at + sequence) * 1000), "source": "a", "sequence": sequence}

    return [
        RunCreated(**common(1), assistant_id="asst_1", model="gpt-4o", metadata={"project_id": "p"}),
        RunInProgress(**common(2)),
        RunCompleted(**common(3), usage=usage(tokens, 5)),
    ]


def correction(run_id: str, *, tokens: int) -> Event:
    """A usage correction that comes after the end."""
    return RunUsageCorrected(
        run_id=run_id,
        thread_id=f"thread_of_{run_id}",
        id="correction",
        occurred_at=(START + 60) * 1000,
        source="billing",
        sequence=1,
        usage=usage(tokens, 5),
    )


def run_ids(count: int, *, partition: int | None = None, partitions: int = 2) -> list[str]:
    """Names of runs; all of one partition, if it is given."""
    names = (f"run_{number}" for number in range(10_000))
    fitting = (name for name in names if partition in (None, key_hash(name.encode()) % partitions))
    return [name for name, _ in zip(fitting, range(count), strict=False)]


def flipped(value: bytes, bit: int) -> bytes:
    """``value`` with one bit the other way round."""
    changed = bytearray(value)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _message(told: Event | Message) -> Message:
    return Message(told.run_id.encode(), encode(told)) if isinstance(told, Event) else told


def _execute(path: Path, statement: str, values: Sequence[object]) -> int:
    with sqlite3.connect(path) as file:
        changed = file.execute(statement, values).rowcount
    file.close()
    return changed
