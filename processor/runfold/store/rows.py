"""How every store keeps what is keyed by a record's place in the log, so that their dumps agree. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msgspec import msgpack

from runfold.fold.changes import Changes, JournalEntry, Letter
from runfold.fold.record import Headers
from runfold.fold.usage import SUMS
from runfold.store.port import Lease

_LEASE = ("partition", "position", "epoch", "first_offset", "last_offset", "last_hash")
_WITHOUT_USAGE = SUMS.index("without_usage")
_encode = msgpack.Encoder().encode
_decode = msgpack.Decoder(tuple[tuple[str, bytes | None], ...]).decode


def encode_headers(letter: Letter) -> bytes | None:
    """A letter's headers as one value; None where there are none."""
    return _encode(letter.headers) if letter.headers else None


def decode_headers(encoded: bytes | None) -> Headers:
    return () if encoded is None else _decode(encoded)


def lease_of(row: Iterable[Any]) -> Lease:
    """A lease of the columns partition, next, epoch, first_offset, last_offset and last_hash."""
    return Lease(**dict(zip(_LEASE, row, strict=True)))


def numbered(journal: Sequence[JournalEntry]) -> Iterator[tuple[tuple[int, int, int], JournalEntry]]:
    """Each entry with its key (partition, offset, part): one record may book several, in the order the fold gave them."""
    parts: dict[tuple[int, int], int] = {}
    for entry in journal:
        place = (entry.partition, entry.offset)
        part = parts[place] = parts.get(place, -1) + 1
        yield (*place, part), entry


def booked_to(changes: Changes) -> tuple[int, int]:
    """The partition to whose row a batch books how many more runs there are without usage; (-1, 0) for a batch of none.

    Usage belongs to no partition; any that the batch holds anyway will do, for only the sum is read.
    """
    return min(changes.positions, default=-1), without_usage(changes)


def without_usage(changes: Changes) -> int:
    """How many more runs without usage there are after these changes."""
    return sum(sums[_WITHOUT_USAGE] for sums in changes.usage.values())


def check_covered(changes: Changes) -> None:
    """Raise ValueError where a row is of a partition whose position does not move: no compare would protect it."""
    partitions = {run.partition for run in changes.runs}
    partitions |= {letter.partition for letter in changes.letters} | {entry.partition for entry in changes.journal}
    uncovered = partitions - changes.positions.keys()
    if uncovered:
        raise ValueError(f"rows of partitions {sorted(uncovered)}, whose positions do not move")
