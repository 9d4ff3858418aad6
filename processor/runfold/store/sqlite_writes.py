"""What one transaction of the SQLite store writes. The protocol stands on :func:`apply` and :func:`write_through_door`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Final

from runfold.fold.changes import Changes, RunChange
from runfold.store.port import DoorChange, Lease, Note, StalePosition
from runfold.store.rows import booked_to, check_covered, without_usage
from runfold.store.sqlite_connection import AT_ONCE, NOW, insert_all
from runfold.store.sqlite_events import write_events
from runfold.store.sqlite_keys import RUN_KEYS, THREAD_KEYS, Key, key_hash, key_hashes, rows_of
from runfold.store.sqlite_links import live_transaction
from runfold.store.sqlite_stamp import Stamp, stamped_transaction
from runfold.store.sqlite_usage import add_usage

Handles = dict[tuple[int, str], int]

_CHUNK: Final = 500
_HANDLE: Final = RunChange._fields.index("handle")  # by name it would cost twice
_MOVE: Final = f"""update position set next = ?, last_offset = ?, last_hash = ?, committed_at = {NOW},
    without_usage = without_usage + ? where partition = ? and next = ? and epoch = ?"""
_RAISE: Final = "update position set epoch = epoch + 1, without_usage = without_usage + ? where partition = ?"
_UPDATE: Final = """update run set status = ?, flags = ?, dimension = ?, minute = ?, final_timestamp = ?, fold = ?, body = ?
    where n = ? and run_id = ? and partition = ? and thread_id = ? and created_at = ?"""
_MOVE_THREAD: Final = "update run set thread_id = ?, created_at = ? where n = ?"
_ADD_TALLY: Final = "insert into tally values (?, ?, ?) on conflict do update set count = count + excluded.count"


def apply(db: sqlite3.Connection, changes: Changes, *, leases: Mapping[int, Lease], stamp: Stamp) -> Handles:
    """The one transaction of a batch.

    1. Every position moves from where it is expected, at our epoch, partitions in order: else StalePosition.
    2. Runs: new rows appended in the order of their numbers, old ones by number.
    3. Dead letters, journal, tallies.
    4. Usage, sorted, last: it is what writers of different partitions share.
    """
    check_covered(changes)
    with stamped_transaction(db, stamp):
        _move(db, changes, leases)
        handles = _write_runs(db, changes.runs, stamp)
        write_events(db, changes, stamp)
        _add_tallies(db, changes.tally)
        _add_usage(db, changes, stamp)
    return handles


def write_through_door(db: sqlite3.Connection, change: DoorChange, *, stamp: Stamp) -> None:
    """A refold of one run by somebody who owns nothing, in one transaction.

    1. The row and the letters are still those that were read: else StalePosition.
    2. The partition's epoch is raised: from here on its owner meets StalePosition, and reads again.
    3. The run's letters and journal are replaced, its row is written in place (its handle stays), or deleted.
    4. Usage moves by the differences.

    Positions and tallies stay: the refolded records were counted when they were folded first.
    """
    partition, run_id, changes = change.partition, change.run_id, change.changes
    with stamped_transaction(db, stamp):
        number = _unchanged(db, change)
        if not db.execute(_RAISE, (without_usage(changes), partition)).rowcount:
            raise StalePosition(f"partition {partition} has no position in this store yet")
        db.execute("delete from letter where run_id = ? and partition = ?", (run_id, partition))
        db.execute("delete from journal where run_id = ? and partition = ?", (run_id, partition))
        if changes.runs:
            _write_runs(db, [changes.runs[0]._replace(handle=number)], stamp)
        elif number:
            _delete_run(db, number)
        write_events(db, changes, stamp)
        _add_usage(db, changes, stamp)


def write_note(db: sqlite3.Connection, note: Note) -> None:
    """A note stands for itself: written again, the newer one counts."""
    with live_transaction(db):
        db.execute(
            """insert into note values (?, ?, ?, ?, ?) on conflict do update
                set reason = excluded.reason, noted_at = excluded.noted_at""",
            (note.partition, note.offset, note.kind, note.reason, note.noted_at),
        )


def remove_note(db: sqlite3.Connection, note: Note) -> None:
    with live_transaction(db):
        db.execute(
            "delete from note where partition = ? and offset = ? and kind = ?", (note.partition, note.offset, note.kind)
        )


def _move(db: sqlite3.Connection, changes: Changes, leases: Mapping[int, Lease]) -> None:
    booked, without = booked_to(changes)
    for partition, move in sorted(changes.positions.items()):
        lease = leases.get(partition)
        if lease is None:
            raise StalePosition(f"partition {partition} is not held: nothing was written")
        where = (partition, move.expected, lease.epoch)
        more = without if partition == booked else 0
        if not db.execute(_MOVE, (move.next, move.last_offset, move.last_hash, more, *where)).rowcount:
            raise StalePosition(
                f"partition {partition} is no longer at {move.expected} in epoch {lease.epoch}: nothing was written"
            )


def _write_runs(db: sqlite3.Connection, runs: Iterable[RunChange], stamp: Stamp) -> Handles:
    old: list[RunChange] = []
    new: list[RunChange] = []
    for change in runs:
        (old if change[_HANDLE] else new).append(change)
    _update_runs(db, old, stamp)
    return _insert_runs(db, new, stamp)


def _insert_runs(db: sqlite3.Connection, runs: Sequence[RunChange], stamp: Stamp) -> Handles:
    if not runs:
        return {}
    (last,) = db.execute("select coalesce(max(n), 0) from run").fetchone()
    handles: Handles = {}
    run_keys, thread_keys = list[Key](), list[Key]()
    for begin in range(0, len(runs), AT_ONCE[0]):
        some = runs[begin : begin + AT_ONCE[0]]
        numbers = range(last + begin + 1, last + begin + 1 + len(some))
        # Turned into columns, and zipped into rows as SQLite takes them: built row by row they took four times as long.
        # So many at a time that the processor's cache holds them: all at once they took twice as long.
        columns = zip(*some, strict=True)
        partitions, run_ids, _, thread_ids, statuses, created, flags, dimensions, minutes, finals, bodies = columns
        of_dimensions, fold = stamp.keys(db, dimensions), repeat(stamp.fold)
        before = (numbers, run_ids, partitions, thread_ids, statuses, created, flags)
        insert_all(db, "run", list(zip(*before, of_dimensions, minutes, finals, fold, bodies)))  # noqa: B905 - fold has no end
        run_keys += zip(key_hashes(run_ids), numbers, strict=True)
        thread_keys += zip(key_hashes(thread_ids), created, numbers, strict=True)
        handles.update(zip(zip(partitions, run_ids, strict=True), numbers, strict=True))
    RUN_KEYS.add(db, run_keys, young=stamp.young)
    THREAD_KEYS.add(db, thread_keys, young=stamp.young)
    return handles


def _update_runs(db: sqlite3.Connection, runs: list[RunChange], stamp: Stamp) -> None:
    if not runs:
        return
    runs.sort(key=itemgetter(_HANDLE))
    columns = zip(*runs, strict=True)
    partitions, run_ids, numbers, thread_ids, statuses, created, flags, dimensions, minutes, finals, bodies = columns
    before = (statuses, flags, stamp.keys(db, dimensions), minutes, finals, repeat(stamp.fold), bodies)
    places = (numbers, run_ids, partitions, thread_ids, created)
    # Nearly always all rows are where they were: the statement itself finds out, which costs less than to look first.
    if db.executemany(_UPDATE, zip(*before, *places)).rowcount < len(runs):  # noqa: B905 - one of them has no end
        _move_threads(db, list(zip(*places, strict=True)), stamp)
        db.executemany(_UPDATE, zip(*before, *places))  # noqa: B905 - as above


_Place = tuple[int, str, int, str, int]
"""n, run_id, partition, thread_id, created_at."""


def _move_threads(db: sqlite3.Connection, rows: list[_Place], stamp: Stamp) -> None:
    """Give rows the thread and the time of creation that they have now, and their keys too."""
    moved = _moved_threads(db, rows)
    db.executemany(_MOVE_THREAD, ((row[3], row[4], row[0]) for row in rows))
    THREAD_KEYS.remove(db, [before for before, _ in moved])
    THREAD_KEYS.add(db, [after for _, after in moved], young=stamp.young)


def _moved_threads(
    db: sqlite3.Connection, rows: list[_Place]
) -> list[tuple[tuple[int, int, int], tuple[int, int, int]]]:
    """The thread keys, before and after, of the rows whose thread or time of creation changes: those of a late created.

    Raises StalePosition where a handle leads to no row of that run: the caller's cache is not of this store's present.
    """
    stored: list[_Place] = []
    for start in range(0, len(rows), _CHUNK):
        numbers = [row[0] for row in rows[start : start + _CHUNK]]
        marks = ", ".join("?" * len(numbers))
        stored += db.execute(
            f"select n, run_id, partition, thread_id, created_at from run where n in ({marks}) order by n", numbers
        ).fetchall()
    if stored == rows:
        return []
    if [row[:3] for row in stored] != [row[:3] for row in rows]:
        raise StalePosition("rows that were to be written are no longer those of their runs: nothing was written")
    return [
        ((key_hash(was[3]), was[4], was[0]), (key_hash(now[3]), now[4], now[0]))
        for was, now in zip(stored, rows, strict=True)
        if was != now
    ]


def _delete_run(db: sqlite3.Connection, number: int) -> None:
    run_id, thread_id, created_at = db.execute(
        "delete from run where n = ? returning run_id, thread_id, created_at", (number,)
    ).fetchone()
    RUN_KEYS.remove(db, [(key_hash(run_id), number)])
    THREAD_KEYS.remove(db, [(key_hash(thread_id), created_at, number)])


def _unchanged(db: sqlite3.Connection, change: DoorChange) -> int:
    """The number of the run's row, 0 where it has none. Raises StalePosition where row or letters are not ``before``'s."""
    found = [row for row in rows_of(db, [change.run_id]) if row[1] == change.partition]
    number, body = (found[0][0], found[0][-1]) if found else (0, None)
    letters = db.execute(
        "select offset from letter where run_id = ? and partition = ? order by offset",
        (change.run_id, change.partition),
    ).fetchall()
    if body != change.before or [offset for (offset,) in letters] != sorted(change.before_letters):
        raise StalePosition(
            f"run {change.run_id} changed in partition {change.partition} since it was read: nothing was written"
        )
    return number


def _add_tallies(db: sqlite3.Connection, tally: Mapping[int, Mapping[str, int]]) -> None:
    rows = [(partition, outcome, count) for partition, counts in tally.items() for outcome, count in counts.items()]
    db.executemany(_ADD_TALLY, sorted(rows))


def _add_usage(db: sqlite3.Connection, changes: Changes, stamp: Stamp) -> None:
    if not changes.usage:
        return
    minutes, dimensions, statuses = zip(*changes.usage, strict=True)
    sums = zip(*changes.usage.values(), strict=True)
    rows = list(zip(minutes, stamp.keys(db, dimensions), statuses, repeat(0), *sums))
    rows.sort(key=itemgetter(1))
    rows.sort(key=itemgetter(0))  # twice by a number costs less than once by tuples
    add_usage(db, rows)
