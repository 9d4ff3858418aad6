"""Naming what differs between a store and its recomputation: the first row of each partition and of usage, and its field."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from runfold.fold.state import RunState
from runfold.replay.take_over import letters_of, state_of
from runfold.store.difference import Difference, first_difference, first_usage_difference
from runfold.store.digest import StoreDigest, in_chunks
from runfold.store.snapshot import RUN_COLUMNS, StoreSnapshot

_BODY = RUN_COLUMNS.index("body")


class Finding(Struct, frozen=True, kw_only=True):
    """Where store and recomputation first differ. ``partition`` is None for usage, which is one for the store.

    ``table`` is run, letter, journal, position or usage; ``key`` the run id, offset, (offset, part) or bucket; ``field`` a
    column, or a field of RunState. It is None where one side has no such row; the values are then the whole row and None.
    """

    partition: int | None
    table: str
    key: object
    field: str | None
    stored: object
    recomputed: object


async def findings(
    snapshot: StoreSnapshot,
    beside: StoreSnapshot,
    last_offsets: Mapping[int, int],
    *,
    stored: StoreDigest,
    recomputed: StoreDigest,
) -> list[Finding]:
    """The first difference of each partition whose digest differs, and of usage; empty where the digests are equal.

    ``last_offsets`` are those of the last records that were folded: a position that stands elsewhere than where its
    partition's rows end is named besides.
    """
    if stored == recomputed:
        return []
    partitions = sorted(stored.partitions.keys() | recomputed.partitions.keys())
    differing = [which for which in partitions if stored.partitions.get(which) != recomputed.partitions.get(which)]
    found: list[Finding] = []
    for partition in differing:
        first = await first_difference(snapshot, beside, partition=partition)
        found += [_named(first, partition)] if first else []
    found += await _moved(snapshot, last_offsets, differing)
    usage = await first_usage_difference(snapshot, beside)
    found += [_named(usage, None)] if usage else []
    return found


def _named(difference: Difference, partition: int | None) -> Finding:
    field = difference.field
    if field is not None and field.startswith("body["):
        place = int(field[len("body[") : -1])
        fields = RunState.__struct_fields__
        field = fields[place] if place < len(fields) else "body"
    return Finding(
        partition=partition,
        table=difference.table,
        key=difference.key,
        field=field,
        stored=difference.left,
        recomputed=difference.right,
    )


async def _moved(snapshot: StoreSnapshot, last_offsets: Mapping[int, int], partitions: list[int]) -> list[Finding]:
    """Positions that stand elsewhere than the store's own rows end: they were moved, or the last rows were taken away."""
    last: dict[int, int] = {}
    async for chunk in in_chunks(snapshot.scan_runs()):
        for partition, row in chunk:
            state = state_of(row[_BODY])
            if state is not None:
                last[partition] = max(last.get(partition, -1), state.last_offset)
    positions = await snapshot.positions()
    for partition in positions:
        for letter in letters_of(snapshot, partition):
            last[partition] = max(last.get(partition, -1), letter.offset)
    return [
        Finding(
            partition=which,
            table="position",
            key=which,
            field="position",
            stored=positions[which],
            recomputed=last.get(which, -1) + 1,
        )
        for which in partitions
        if which in last_offsets and last.get(which, -1) != last_offsets[which]
    ]
