"""Whether a store agrees with itself: what can be told without its log, in one pass over a snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from msgspec import Struct

from runfold.fold.batch import row_of
from runfold.fold.state import decode_state
from runfold.fold.usage import SUMS, BucketKey, Dimensions
from runfold.store.snapshot import RUN_COLUMNS, Row, StoreSnapshot
from runfold_schemas.codec import UNREADABLE

MOST_TOLD = 100
"""So many problems are spelled out; the rest is counted."""

_BREATH = 1_000
_WIDTH = len(Dimensions._fields) + 2


class Check(Struct, kw_only=True):
    """What was read, and what was wrong with it: ``problems`` spelled out, ``wrong`` how many in all."""

    runs: int = 0
    letters: int = 0
    buckets: int = 0
    wrong: int = 0
    problems: list[str] = []

    @property
    def sound(self) -> bool:
        return not self.wrong

    def complain(self, problem: str) -> None:
        """Count a problem, and keep it where there is room."""
        self.wrong += 1
        if len(self.problems) < MOST_TOLD:
            self.problems.append(problem)


async def check(snapshot: StoreSnapshot) -> Check:
    """Read all rows: bodies can be decoded and agree with their columns, usage is the sum of the runs' bookings."""
    found, usage = Check(), dict[BucketKey, list[int]]()
    for number, (partition, row) in enumerate(snapshot.scan_runs(), 1):
        for problem in _look_at_run(partition, row, usage):
            found.complain(problem)
        if number % _BREATH == 0:
            await asyncio.sleep(0)
        found.runs = number
    for partition, position in sorted((await snapshot.positions()).items()):
        for letter in snapshot.letters(partition):
            found.letters += 1
            if not isinstance(letter[0], int) or letter[0] >= position:
                found.complain(f"dead letter {partition}:{letter[0]} is not below the position {position}")
    _look_at_usage(snapshot, usage, found)
    return found


def _look_at_run(partition: int, row: Row, usage: dict[BucketKey, list[int]]) -> Iterator[str]:
    """What is wrong with a run's row; adds its booking to ``usage``."""
    told = dict(zip(RUN_COLUMNS, row, strict=True))
    where = f"run {told['run_id']!r} of partition {partition}"
    try:
        state = decode_state(told["body"])  # type: ignore[arg-type] # whatever a broken store holds, UNREADABLE covers
    except UNREADABLE as error:
        yield f"{where}: its body cannot be read: {error}"
        return
    right = row_of(partition, 0, state)
    expected = {**right._asdict(), **right.dimensions._asdict()}
    yield from (
        f"{where}: {name} is {told[name]!r}, and its body says {expected[name]!r}"
        for name in RUN_COLUMNS
        if name != "body" and told[name] != expected[name]
    )
    if state.booked is not None:
        sums = usage.setdefault(state.booked.bucket, [0] * len(SUMS))
        sums[:] = map(sum, zip(sums, state.booked.sums, strict=True))


def _look_at_usage(snapshot: StoreSnapshot, expected: dict[BucketKey, list[int]], found: Check) -> None:
    for row in snapshot.usage():
        found.buckets += 1
        bucket = BucketKey(row[0], Dimensions(*row[1 : _WIDTH - 1]), row[_WIDTH - 1])  # type: ignore[arg-type]
        told, right = list(row[_WIDTH:]), expected.pop(bucket, [0] * len(SUMS))
        if told != right:
            found.complain(f"usage {_named(bucket)}: {told}, and the runs booked there add up to {right}")
    for bucket, sums in expected.items():
        if any(sums):
            found.complain(f"usage {_named(bucket)} is not there, and the runs booked there add up to {sums}")


def _named(bucket: BucketKey) -> str:
    return f"of minute {bucket.minute}, {', '.join(filter(None, bucket.dimensions))}, status {bucket.status}"
