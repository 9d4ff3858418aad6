"""A record of a log, and where it stands: what the fold is given, whichever log it came from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple, Protocol

from msgspec import msgpack
from xxhash import xxh3_64_digest

Headers = Sequence[tuple[str, bytes | None]]
"""Names may come more than once, and a value may be null: in Kafka that is not the same as an empty one."""


_value_of = attrgetter("value")


class Record(Protocol):
    """One record of one partition. ``timestamp`` is the time of publishing, Unix milliseconds, or -1 where unknown.

    Adapters may hand on their driver's own objects, as long as they have these attributes.
    """

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...


class StoredRecord(NamedTuple):
    """A record as plain data: for logs whose driver has no record type of its own, and for tests."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


def bytes_of(records: Iterable[Record]) -> int:
    """How many bytes the records' values have together; some sequences of records know."""
    known: int | None = getattr(records, "bytes_of_values", None)
    return sum(map(len, filter(None, map(_value_of, records)))) if known is None else known


def hash_of_record(record: Record) -> bytes:
    """8 bytes that tell this record from another one at the same offset: a log made anew answers with another hash."""
    return xxh3_64_digest(msgpack.encode((record.offset, record.timestamp, record.key, record.value)))
