"""Digest and dump: what a store holds, as numbers to compare and as lines to read. Any two stores of one log agree.

In the digest of a partition: all columns of its runs, its dead letters and journal, and its position. In the digest of
usage: every bucket that is not zero. Left out, because two right stores of the same log may differ in it
(docs/decisions/0010 argues each): the stores' own keys (row numbers, keys of dimensions, hashes of ids), epochs, owners
and leases, tallies, notes, times of commit, the generation of the fold, the first offset, the last record's hash, the
order of rows, buckets whose sums are all zero, and the store's identity.

A digest is the sum, modulo 2**128, of a 128 bit hash of each row: it does not depend on the order in which rows are read,
so a store may read them as they lie. It guards against faults, not against forgers, who could balance such a sum.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from hashlib import blake2b
from itertools import chain, islice
from typing import Final, TypeVar

from msgspec import Struct, json, msgpack

from runfold.store.snapshot import JOURNAL_COLUMNS, LETTER_COLUMNS, RUN_COLUMNS, USAGE_COLUMNS, Row, StoreSnapshot

T = TypeVar("T")

_MODULUS: Final = 1 << 128
_CHUNK: Final = 1_000

_encode = msgpack.Encoder().encode


class StoreDigest(Struct, frozen=True, kw_only=True):
    """32 hex digits for each partition, and for usage."""

    partitions: dict[int, str]
    usage: str


async def digest(snapshot: StoreSnapshot) -> StoreDigest:
    """The digest of everything in a view, in one pass over each table."""
    sums: dict[int, int] = defaultdict(int)
    positions = await snapshot.positions()
    runs = ((partition, "run", row) for partition, row in snapshot.scan_runs())
    async for chunk in in_chunks(chain(_small_rows(snapshot, positions), runs)):
        for partition, table, row in chunk:
            sums[partition] += _hash(table, row)
    usage = 0
    async for buckets in in_chunks(snapshot.usage()):
        # As JSON: sums may be beyond 64 bits, where MessagePack ends.
        usage += sum(_number(json.encode(row)) for row in buckets)
    return StoreDigest(partitions={key: _hex(total) for key, total in sorted(sums.items())}, usage=_hex(usage))


async def dump(snapshot: StoreSnapshot) -> AsyncIterator[bytes]:
    """What the digest covers, as JSON Lines in one order: by partition position, runs, letters, journal; then usage.

    Bytes are in base64.
    """
    for partition, position in sorted((await snapshot.positions()).items()):
        yield _line({"table": "position", "partition": partition, "position": position})
        for table, columns, rows in (
            ("run", RUN_COLUMNS, snapshot.runs(partition)),
            ("letter", LETTER_COLUMNS, snapshot.letters(partition)),
            ("journal", JOURNAL_COLUMNS, snapshot.journal(partition)),
        ):
            async for chunk in in_chunks(rows):
                for row in chunk:
                    yield _line({"table": table, "partition": partition, **dict(zip(columns, row, strict=True))})
    async for chunk in in_chunks(snapshot.usage()):
        for row in chunk:
            yield _line({"table": "usage", **dict(zip(USAGE_COLUMNS, row, strict=True))})


def _small_rows(snapshot: StoreSnapshot, positions: dict[int, int]) -> Iterator[tuple[int, str, Row]]:
    for partition, position in positions.items():
        yield partition, "position", (position,)
        yield from ((partition, "letter", row) for row in snapshot.letters(partition))
        yield from ((partition, "journal", row) for row in snapshot.journal(partition))


def _hash(table: str, row: Row) -> int:
    return _number(_encode((table, row)))


def _number(encoded: bytes) -> int:
    return int.from_bytes(blake2b(encoded, digest_size=16).digest(), "big")


def _hex(total: int) -> str:
    return f"{total % _MODULUS:032x}"


def _line(row: dict[str, object]) -> bytes:
    return json.encode(row) + b"\n"


async def in_chunks(rows: Iterable[T]) -> AsyncGenerator[list[T]]:
    """The rows in lists, with a turn for the event loop after each: a long digest can be cancelled, and stops nobody."""
    remaining = iter(rows)
    while chunk := list(islice(remaining, _CHUNK)):
        yield chunk
        await asyncio.sleep(0)
