"""The store in plain dictionaries: simple enough to be seen to be right. For tests, and the model that SQLite is held to.

Nothing here awaits, so every method is one transaction; each checks everything before it changes anything.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from operator import itemgetter

from msgspec import Struct
from msgspec.structs import replace

from runfold.fold.changes import Changes, JournalEntry, Letter, RunChange
from runfold.fold.outcome import Flag
from runfold.fold.usage import SUMS, BucketKey
from runfold.store.claims import ClaimedRow
from runfold.store.identity import check_growth, check_owner
from runfold.store.memory_lists import stored, wants
from runfold.store.memory_snapshot import MemorySnapshot
from runfold.store.port import (
    ApiKey,
    ClaimHistory,
    Crew,
    DoorChange,
    Growth,
    Lease,
    LostRange,
    Note,
    PartitionStatus,
    RunFilter,
    RunPage,
    Seat,
    StalePosition,
    StoredRun,
    StoreIdentity,
    WorkerStatus,
)
from runfold.store.rows import booked_to, check_covered, numbered, without_usage
from runfold.store.split import chosen
from runfold.store.summing import summed
from runfold.store.usage_query import UsageQuery, UsageRow, UsageSum
from runfold_schemas import RunStatus

Place = tuple[int, int]


class _Position(Struct, kw_only=True):
    next: int
    first_offset: int
    epoch: int = 0
    owner: str | None = None
    lease_until: int = 0
    last_offset: int | None = None
    last_hash: bytes | None = None
    committed_at: int | None = None
    history: ClaimHistory = ClaimHistory()
    without_usage: int = 0


class MemoryStore:
    """See :class:`runfold.store.port.Store`. ``clock`` gives Unix seconds; what was written outlives :meth:`close`."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._identity = StoreIdentity(
            schema_version=1, cluster_id=None, topic=None, partitions=None, fold_version=None, settings_hash=None
        )
        self._last_handle = 0
        self._positions: dict[int, _Position] = {}
        self._runs: dict[tuple[int, str], RunChange] = {}
        self._letters: dict[Place, Letter] = {}
        self._journal: dict[tuple[int, int, int], JournalEntry] = {}
        self._usage: dict[BucketKey, tuple[int, ...]] = {}
        self._tally: dict[int, Counter[str]] = defaultdict(Counter)
        self._notes: dict[tuple[int, int, str], Note] = {}
        self._workers: dict[str, WorkerStatus] = {}
        self._lost: dict[Place, LostRange] = {}
        self._growths: list[Growth] = []
        self._keys: dict[str, ApiKey] = {}

    def _now(self) -> int:
        return round(self._clock() * 1000)

    def serve_lock(self) -> AbstractContextManager[None]:
        return nullcontext()  # no other process can reach it

    async def open(self, *, write: bool = True) -> None: ...

    async def close(self) -> None: ...

    async def identity(self) -> StoreIdentity:
        return self._identity

    async def bind(
        self,
        *,
        cluster_id: str,
        topic: str,
        partitions: int,
        fold_version: int,
        compatible: Sequence[int],
        settings_hash: str,
    ) -> None:
        wanted = StoreIdentity(
            schema_version=1,
            cluster_id=cluster_id,
            topic=topic,
            partitions=partitions,
            fold_version=fold_version,
            settings_hash=settings_hash,
        )
        check_owner(self._identity, wanted, compatible=compatible)
        self._identity = wanted

    async def claim(self, owner: str, partitions: Mapping[int, int], *, lease: float) -> dict[int, Lease]:
        now, leases = self._now(), {}
        for partition, begin in partitions.items():
            at = self._positions.setdefault(partition, _Position(next=begin, first_offset=begin))
            row = ClaimedRow(
                partition=partition,
                position=at.next,
                epoch=at.epoch,
                owner=at.owner,
                lease_until=at.lease_until,
                first_offset=at.first_offset,
                last_offset=at.last_offset,
                last_hash=at.last_hash,
                history=at.history,
            )
            if row.may_go_to(owner, now=now):
                held = leases[partition] = row.claimed_by(owner)
                at.owner, at.epoch, at.lease_until = owner, held.epoch, now + round(lease * 1000)
                at.history = held.history
        return leases

    async def renew(self, owner: str, leases: Mapping[int, Lease], *, lease: float) -> set[int]:
        now, held = self._now(), self._held(owner, leases)
        until = now + round(lease * 1000)
        since = self._workers[owner].since if owner in self._workers else now
        self._workers[owner] = WorkerStatus(owner=owner, since=since, seen_at=now, alive_until=until)
        self._workers = {known.owner: known for known in await self.workers()}
        for at in held.values():
            at.lease_until = until
        return set(held)

    async def crew(self) -> Crew:
        now = self._now()
        return Crew(
            alive=frozenset(owner for owner, known in self._workers.items() if known.alive_until > now),
            seats={
                partition: Seat(owner=at.owner if at.lease_until > now else None, position=at.next)
                for partition, at in sorted(self._positions.items())
            },
        )

    async def workers(self) -> list[WorkerStatus]:
        now, owners = self._now(), {at.owner for at in self._positions.values()}
        known = (each for each in self._workers.values() if each.alive_until > now or each.owner in owners)
        return sorted(known, key=lambda each: (each.since, each.owner))

    async def release(self, owner: str, leases: Mapping[int, Lease]) -> None:
        for at in self._held(owner, leases).values():
            at.owner, at.lease_until = None, 0

    async def leave(self, owner: str) -> None:
        for at in self._positions.values():
            if at.owner == owner:
                at.owner, at.lease_until = None, 0
        self._workers.pop(owner, None)

    async def bury(self, owners: Sequence[str]) -> None:
        for at in self._positions.values():
            if at.owner in owners:
                at.lease_until = 0
        for owner in owners:
            self._workers.pop(owner, None)

    async def begin_trial(self, lease: Lease, offset: int) -> None:
        at = self._positions[lease.partition]
        if at.epoch != lease.epoch:
            raise StalePosition(f"partition {lease.partition} is no longer held in epoch {lease.epoch}")
        at.history = replace(at.history, trial=offset)

    async def accept_growth(self, growth: Growth) -> None:
        check_growth(self._identity, growth)
        self._identity = replace(self._identity, partitions=growth.partitions)
        self._growths.append(growth)

    async def growths(self) -> list[Growth]:
        return list(self._growths)

    async def note_loss(self, lost: LostRange) -> None:
        known = self._lost.get((lost.partition, lost.begin), lost)
        if known.accepted_at is None:
            self._lost[lost.partition, lost.begin] = replace(known, end=max(known.end, lost.end))

    async def accept_loss(self, lost: LostRange) -> None:
        at = self._positions.get(lost.partition)
        if at is None or at.next != lost.begin:
            raise StalePosition(f"partition {lost.partition} is no longer at {lost.begin}: nothing was written")
        at.next, at.epoch = lost.end, at.epoch + 1
        known = self._lost.get((lost.partition, lost.begin), lost)
        self._lost[lost.partition, lost.begin] = replace(known, end=lost.end, accepted_at=self._now())

    async def lost_ranges(self) -> list[LostRange]:
        return [lost for _, lost in sorted(self._lost.items(), key=itemgetter(0))]

    def _held(self, owner: str, leases: Mapping[int, Lease]) -> dict[int, _Position]:
        positions = ((partition, self._positions.get(partition), lease.epoch) for partition, lease in leases.items())
        return {partition: at for partition, at, epoch in positions if at and (at.owner, at.epoch) == (owner, epoch)}

    async def load(self, partition: int, run_ids: Sequence[str]) -> dict[str, StoredRun]:
        return {row.run_id: row for row in await self.load_each({partition: run_ids})}

    async def load_each(self, wanted: Mapping[int, Sequence[str]]) -> list[StoredRun]:
        rows = (self._runs.get((partition, run_id)) for partition, run_ids in wanted.items() for run_id in run_ids)
        return [stored(row) for row in rows if row is not None]

    async def apply(self, changes: Changes, leases: Mapping[int, Lease]) -> dict[tuple[int, str], int]:
        check_covered(changes)
        for partition, move in changes.positions.items():
            at, lease = self._positions.get(partition), leases.get(partition)
            if at is None or lease is None or (at.next, at.epoch) != (move.expected, lease.epoch):
                raise StalePosition(f"partition {partition} is no longer at {move.expected}, or not held at this epoch")
        for run in changes.runs:
            if self._handle_of(run) != run.handle:
                raise StalePosition(f"the row of run {run.run_id} is no longer where it was")
        for partition, move in changes.positions.items():
            at = self._positions[partition]
            at.next, at.last_offset, at.last_hash = move.next, move.last_offset, move.last_hash
            at.committed_at = self._now()
        booked, more = booked_to(changes)
        if more:
            self._positions[booked].without_usage += more
        for partition, counts in changes.tally.items():
            self._tally[partition].update(counts)
        handles = {(run.partition, run.run_id): self._write_run(run) for run in changes.runs}
        self._write_the_rest(changes)
        return {
            (run.partition, run.run_id): handles[run.partition, run.run_id] for run in changes.runs if not run.handle
        }

    async def write_through_door(self, change: DoorChange) -> None:
        partition, key = change.partition, (change.partition, change.run_id)
        row = self._runs.get(key)
        letters = [offset for (of, offset), letter in self._letters.items() if (of, letter.run_id) == key]
        if (row and row.body) != change.before or sorted(letters) != sorted(change.before_letters):
            raise StalePosition(f"run {change.run_id} changed in partition {partition} since it was read")
        if partition not in self._positions:
            raise StalePosition(f"partition {partition} has no position in this store yet")
        self._positions[partition].epoch += 1
        self._positions[partition].without_usage += without_usage(change.changes)
        for offset in letters:
            del self._letters[partition, offset]
        for place in [place for place, entry in self._journal.items() if (place[0], entry.run_id) == key]:
            del self._journal[place]
        if change.changes.runs:
            self._write_run(change.changes.runs[0]._replace(handle=row.handle if row else 0))
        else:
            self._runs.pop(key, None)
        self._write_the_rest(change.changes)

    def _handle_of(self, run: RunChange) -> int:
        row = self._runs.get((run.partition, run.run_id))
        return 0 if row is None else row.handle

    def _write_run(self, run: RunChange) -> int:
        self._last_handle += not run.handle
        row = self._runs[run.partition, run.run_id] = run._replace(handle=run.handle or self._last_handle)
        return row.handle

    def _write_the_rest(self, changes: Changes) -> None:
        for letter in changes.letters:
            self._letters[letter.partition, letter.offset] = replace(letter, headers=tuple(letter.headers))
        self._journal.update(numbered(changes.journal))
        nothing = (0,) * len(SUMS)
        for bucket, sums in changes.usage.items():
            old = self._usage.get(bucket, nothing)
            self._usage[bucket] = tuple(a + b for a, b in zip(old, sums, strict=True))

    async def add_note(self, note: Note) -> None:
        self._notes[note.partition, note.offset, note.kind] = note

    async def remove_note(self, note: Note) -> None:
        self._notes.pop((note.partition, note.offset, note.kind), None)

    async def notes(self) -> list[Note]:
        return [note for _, note in sorted(self._notes.items(), key=itemgetter(0))]

    async def add_key(self, key: ApiKey) -> None:
        self._keys[key.key_id] = key

    async def revoke_key(self, key_id: str) -> bool:
        key = self._keys.get(key_id)
        if key is not None and key.revoked_at is None:
            self._keys[key_id] = replace(key, revoked_at=self._now())
        return key is not None

    async def keys(self) -> list[ApiKey]:
        return sorted(self._keys.values(), key=lambda key: (key.created_at, key.key_id))

    async def partitions(self) -> list[PartitionStatus]:
        return [
            PartitionStatus(
                partition=partition,
                position=at.next,
                epoch=at.epoch,
                owner=at.owner,
                lease_until=at.lease_until,
                first_offset=at.first_offset,
                tally=dict(self._tally[partition]),
                committed_at=at.committed_at,
                history=at.history,
                without_usage=at.without_usage,
            )
            for partition, at in sorted(self._positions.items())
        ]

    async def find_run(self, run_id: str, *, project_id: str | None = None) -> list[StoredRun]:
        rows = [stored(row) for row in self._of_project(project_id) if row.run_id == run_id]
        return sorted(rows, key=lambda row: row.partition)

    async def list_runs(self, wanted: RunFilter) -> list[StoredRun]:
        rows = [row for row in chosen(self._of_project(wanted.project_id)).values() if wants(wanted, row)]
        rows.sort(key=lambda row: (row.created_at, row.run_id), reverse=not wanted.ascending)
        return [stored(row) for row in rows[: wanted.limit]]

    async def browse_runs(self, wanted: RunFilter, *, seconds: float) -> RunPage:  # noqa: ARG002 - it looks at all at once
        rows = await self.list_runs(wanted)
        last = self._runs[rows[-1].partition, rows[-1].run_id] if len(rows) == wanted.limit else None
        return RunPage(rows=rows, next=None if last is None else (last.created_at, last.run_id))

    def _of_project(self, project_id: str | None) -> list[RunChange]:
        return [row for row in self._runs.values() if project_id in (None, row.dimensions.project_id)]

    async def count_runs(self) -> dict[str, int]:
        rows = self._runs.values()
        by_status = Counter(row.status for row in rows)
        rows_of = Counter(row.run_id for row in rows)
        return {
            **{status.wire: by_status[status] for status in RunStatus},
            **await self.count_flagged(),
            "split": sum(count > 1 for count in rows_of.values()),
        }

    async def count_flagged(self) -> dict[str, int]:
        masks = {"without_created": Flag.INCOMPLETE, "missing": Flag.MISSING, "flagged": ~0}
        return {name: sum(bool(row.flags & mask) for row in self._runs.values()) for name, mask in masks.items()}

    async def usage(self, *, begin: int | None = None, end: int | None = None) -> list[UsageRow]:
        return [
            UsageRow(bucket=bucket, sums=sums)
            for bucket, sums in sorted(self._usage.items())
            if any(sums) and (begin is None or begin <= bucket.minute) and (end is None or bucket.minute < end)
        ]

    async def sum_usage(self, wanted: UsageQuery) -> list[UsageSum]:
        return summed(await self.usage(begin=wanted.edges[0], end=wanted.edges[-1]), wanted)

    async def letters(
        self, *, run_id: str | None = None, place: Place | None = None, limit: int = 100, after: Place | None = None
    ) -> list[Letter]:
        found = [
            letter
            for at, letter in sorted(self._letters.items(), key=itemgetter(0))
            if (run_id is None or letter.run_id == run_id)
            and (place is None or at == place)
            and (after is None or at > after)
        ]
        return found[:limit]

    async def count_letters(self) -> dict[str, int]:
        return dict(sorted(Counter(letter.reason for letter in self._letters.values()).items()))

    async def snapshot(self) -> MemorySnapshot:
        return MemorySnapshot(
            reached={partition: at.next for partition, at in sorted(self._positions.items())},
            rows=dict(sorted(self._runs.items())),
            dead=dict(sorted(self._letters.items(), key=itemgetter(0))),
            booked=dict(sorted(self._journal.items(), key=itemgetter(0))),
            sums=dict(sorted(self._usage.items())),
        )
