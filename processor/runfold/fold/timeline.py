"""A run's timeline: every status fact of the run in the order that counts, packed into bytes.

19 bytes a fact: index of its source, the status with its bits, the source's sequence (0: none), the time in Unix
milliseconds. Packed, a timeline costs nothing to store and to load, and leaves no objects behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct as Packing

from runfold.fold.table import Entry

NAMELESS = 0xFFFF
"""The index of all events that name no source; their order is the log's."""

_PACKING = Packing("<HBQq")
SIZE = _PACKING.size
pack = _PACKING.pack
_unpack_from = _PACKING.unpack_from


def entries(timeline: bytes) -> Iterator[Entry]:
    """The facts of a timeline, first to last: (source, status and bits, sequence, time)."""
    return _PACKING.iter_unpack(timeline)


def older(order: tuple[int, int], than: tuple[int, int]) -> bool:
    """Compare two facts of one source, each (sequence or 0, time): by number where both have one, else by time."""
    return order[0] < than[0] if order[0] and than[0] else order[1] < than[1]


def place_of(timeline: bytes, *, source: int, order: tuple[int, int]) -> int:
    """Where a fact belongs, in bytes: at the end, or directly before the first newer fact of its own source.

    Late is what is older than its source's last fact; facts of other sources do not matter, nor do nameless ones.
    """
    end = len(timeline)
    if source == NAMELESS:
        return end
    for place in range(end - SIZE, -1, -SIZE):
        told_by, _, sequence, at = _unpack_from(timeline, place)
        if told_by == source:
            if older(order, (sequence, at)):
                break
            return end
    else:
        return end
    facts = enumerate(entries(timeline))
    return next(
        index * SIZE
        for index, (told_by, _, sequence, at) in facts
        if told_by == source and older(order, (sequence, at))
    )
