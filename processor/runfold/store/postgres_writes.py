"""What the PostgreSQL store writes, each in one transaction: a batch of the owner's, a refold through the door.

Everything that travels is finished before the transaction begins, so that rows are locked for as short as can be.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import Final, TypeVar

from asyncpg import DataError, DeadlockDetectedError, SerializationError
from msgspec import Struct

from runfold.fold.changes import Changes, JournalEntry, Letter, RunChange
from runfold.fold.usage import SUMS
from runfold.store.port import DoorChange, Lease, StalePosition
from runfold.store.postgres_connection import NOW, Session
from runfold.store.postgres_events import columns_of, write_journal, write_letters
from runfold.store.postgres_leases import check_switched
from runfold.store.postgres_rows import RUN_COPY_COLUMNS, copied_runs, key_of, stored_text
from runfold.store.postgres_stamp import Stamp
from runfold.store.rows import booked_to, check_covered, without_usage
from runfold.store.snapshot import Row

T = TypeVar("T")
Handles = dict[tuple[int, str], int]

_TRIES: Final = 5
_MOVE: Final = f"""update position set next = $1, last_offset = $2, last_hash = $3, committed_at = {NOW},
    without_usage = without_usage + $4 where partition = $5 and next = $6 and epoch = $7 returning partition"""
_RAISE: Final = "update position set epoch = epoch + 1, without_usage = without_usage + $2 where partition = $1"
_COLUMNS: Final = {
    "run_key": "bigint",
    "partition": "integer",
    "run_id": "text",
    "thread_key": "bigint",
    "thread_id": "text",
    "created_at": "bigint",
    "flags": "integer",
    "status": "smallint",
    "dimension": "integer",
    "minute": "bigint",
    "final_timestamp": "bigint",
    "body": "bytea",
}
_KEY: Final = ("run_key", "partition", "run_id")
_UPDATE: Final = f"""update run set {", ".join(f"{name} = new.{name}" for name in _COLUMNS if name not in _KEY)},
    fold = ${len(_COLUMNS) + 1}
    from unnest({", ".join(f"${n}::{kind}[]" for n, kind in enumerate(_COLUMNS.values(), 1))}) as new ({", ".join(_COLUMNS)})
    where {" and ".join(f"run.{name} = new.{name}" for name in _KEY)}"""
_USAGE_TYPES: Final = ("bigint", "integer", "smallint", *("bigint" for _ in SUMS))
_ADD_USAGE: Final = f"""insert into usage
    select * from unnest({", ".join(f"${n}::{kind}[]" for n, kind in enumerate(_USAGE_TYPES, 1))})
    on conflict (minute, dimension, status) do update set
    {", ".join(f"{name} = usage.{name} + excluded.{name}" for name in SUMS)}"""
_ADD_LARGE_USAGE: Final = _ADD_USAGE.replace("::bigint[]", "::numeric[]").replace("$1::numeric[]", "$1::bigint[]")
_ADD_TALLY: Final = """insert into tally select * from unnest($1::integer[], $2::text[], $3::bigint[])
    on conflict (partition, outcome) do update set count = tally.count + excluded.count"""


class Prepared(Struct, frozen=True, kw_only=True):
    """A batch as it travels: everything encoded and sorted."""

    moves: list[Row]
    new: list[bytes]
    old: list[Row]
    letters: Sequence[Letter]
    journal: Sequence[JournalEntry]
    tally: list[Row]
    usage: list[Row]


async def apply(session: Session, changes: Changes, *, leases: Mapping[int, Lease], stamp: Stamp) -> Handles:
    """The one transaction of a batch.

    1. Every position moves from where it is expected, at our epoch, partitions in order: else StalePosition.
    2. Runs: new ones by one COPY, old ones by one statement, both in the order of their keys.
    3. Dead letters, journal, tallies.
    4. Usage, sorted, last: it is what writers of different partitions share.

    Where others stood in the way (a deadlock, a serialization error) the whole of it is done again.
    """
    check_covered(changes)
    await stamp.learn(session, changes)
    new = [(key_of(run.run_id), run) for run in changes.runs if not run.handle]
    prepared = _prepared(changes, new, leases, stamp)
    try:
        await _retried(lambda: _apply(session, prepared, stamp))
    except StalePosition:
        stamp.forget()  # another store may have been switched to
        raise
    return {(run.partition, run.run_id): key for key, run in new}


async def _apply(session: Session, batch: Prepared, stamp: Stamp) -> None:
    async with session.applying():
        await _move(session, batch.moves)
        await _copy_runs(session, batch.new)
        await _update_runs(session, batch.old, stamp)
        await write_letters(session, batch.letters)
        await write_journal(session, batch.journal, stamp)
        if batch.tally:
            await session.connection.execute(_ADD_TALLY, *columns_of(batch.tally))
        await _add_usage(session, batch.usage)


async def write_through_door(session: Session, change: DoorChange, *, stamp: Stamp) -> None:
    """A refold of one run by somebody who owns nothing, in one transaction.

    1. The partition's epoch is raised: its owner waits here, and then meets StalePosition and reads again.
    2. The row and the letters are still those that were read: else StalePosition, and the epoch stays.
    3. The run's letters and journal are replaced, its row is written in place (its handle stays), or deleted.
    4. Usage moves by the differences.

    Positions and tallies stay: the refolded records were counted when they were folded first.
    """
    await stamp.learn(session, change.changes)
    await _retried(lambda: _write_through_door(session, change, stamp))


async def _write_through_door(session: Session, change: DoorChange, stamp: Stamp) -> None:
    changes, of_run = change.changes, (key_of(change.run_id), change.partition, stored_text(change.run_id))
    execute = session.connection.execute
    async with session.writing():
        if await execute(_RAISE, change.partition, without_usage(changes)) != "UPDATE 1":
            raise StalePosition(f"partition {change.partition} has no position in this store yet")
        await check_switched(session, stamp.switched)
        await _check_unchanged(session, change, of_run)
        await execute("delete from letter where run_key = $1 and partition = $2 and run_id = $3", *of_run)
        await execute("delete from journal where run_key = $1 and partition = $2 and run_id = $3", *of_run)
        if changes.runs and change.before is not None:
            await _update_runs(session, [_old_row(changes.runs[0]._replace(handle=0), stamp)], stamp)
        elif changes.runs:
            await _copy_runs(
                session, copied_runs([(of_run[0], changes.runs[0])], dimension=stamp.key, fold=_fold(stamp))
            )
        else:
            await execute("delete from run where run_key = $1 and partition = $2 and run_id = $3", *of_run)
        await write_letters(session, changes.letters)
        await write_journal(session, changes.journal, stamp)
        await _add_usage(session, _usage_rows(changes, stamp))


async def _check_unchanged(session: Session, change: DoorChange, of_run: tuple[int, int, str]) -> None:
    fetchval = session.connection.fetchval
    body = await fetchval("select body from run where run_key = $1 and partition = $2 and run_id = $3", *of_run)
    letters = await fetchval(
        """select array_agg(log_offset order by log_offset) from letter
            where run_key = $1 and partition = $2 and run_id = $3""",
        *of_run,
    )
    if body != change.before or (letters or []) != sorted(change.before_letters):
        raise StalePosition(
            f"run {change.run_id} changed in partition {change.partition} since it was read: nothing was written"
        )


async def _retried(work: Callable[[], Awaitable[T]]) -> T:
    """What the server has undone because of others is done again, whole, after a pause that tells two rivals apart."""
    for attempt in range(1, _TRIES):
        try:
            return await work()
        except (SerializationError, DeadlockDetectedError):
            await asyncio.sleep(random.uniform(0, 0.02 * attempt))  # noqa: S311 - jitter
    return await work()


def _prepared(
    changes: Changes, new: list[tuple[int, RunChange]], leases: Mapping[int, Lease], stamp: Stamp
) -> Prepared:
    old = [run for run in changes.runs if run.handle]
    new.sort(key=itemgetter(0))
    old.sort(key=attrgetter("handle"))
    return Prepared(
        moves=_moves(changes, leases),
        new=copied_runs(new, dimension=stamp.key, fold=_fold(stamp)) if new else [],
        old=[_old_row(run, stamp) for run in old],
        letters=changes.letters,
        journal=changes.journal,
        tally=sorted(
            (partition, *counted) for partition, counts in changes.tally.items() for counted in counts.items()
        ),
        usage=_usage_rows(changes, stamp),
    )


def _moves(changes: Changes, leases: Mapping[int, Lease]) -> list[Row]:
    rows = list[Row]()
    booked, without = booked_to(changes)
    for partition, move in sorted(changes.positions.items()):
        lease = leases.get(partition)
        if lease is None:
            raise StalePosition(f"partition {partition} is not held: nothing was written")
        more = without if partition == booked else 0
        rows.append((move.next, move.last_offset, move.last_hash, more, partition, move.expected, lease.epoch))
    return rows


async def _move(session: Session, moves: list[Row]) -> None:
    moved = {partition for (partition,) in await session.connection.fetchmany(_MOVE, moves)} if moves else set()
    for *_, partition, expected, epoch in moves:
        if partition not in moved:
            raise StalePosition(
                f"partition {partition} is no longer at {expected} in epoch {epoch}: nothing was written"
            )


async def _copy_runs(session: Session, chunks: Sequence[bytes]) -> None:
    if chunks:
        await session.connection.copy_to_table("run", source=_sent(chunks), columns=RUN_COPY_COLUMNS, format="binary")


async def _sent(chunks: Sequence[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def _update_runs(session: Session, rows: list[Row], stamp: Stamp) -> None:
    """Raises StalePosition where a row is not there: the caller's cache is not of this store's present."""
    if rows:
        done = await session.connection.execute(_UPDATE, *columns_of(rows), _fold(stamp))
        if done != f"UPDATE {len(rows)}":
            raise StalePosition("rows that were to be written are no longer those of their runs: nothing was written")


async def _add_usage(session: Session, rows: list[Row]) -> None:
    if not rows:
        return
    columns = columns_of(rows)
    try:
        await session.connection.execute(_ADD_USAGE, *columns)
    except DataError:  # by the driver, before anything was sent: a difference that is no bigint
        await session.connection.execute(_ADD_LARGE_USAGE, *columns)


def _old_row(run: RunChange, stamp: Stamp) -> Row:
    run_id, thread_id = stored_text(run.run_id), stored_text(run.thread_id)
    thread = key_of(run.thread_id), thread_id, run.created_at
    booked = stamp.key(run.dimensions), run.minute, run.final_timestamp
    return (run.handle or key_of(run.run_id), run.partition, run_id, *thread, run.flags, run.status, *booked, run.body)


def _usage_rows(changes: Changes, stamp: Stamp) -> list[Row]:
    key = stamp.key
    rows = [(bucket.minute, key(bucket.dimensions), bucket.status, *sums) for bucket, sums in changes.usage.items()]
    rows.sort()
    return list[Row](rows)


def _fold(stamp: Stamp) -> int:
    if stamp.fold is None:
        raise RuntimeError("bind the store to its log and fold before writing")
    return stamp.fold
