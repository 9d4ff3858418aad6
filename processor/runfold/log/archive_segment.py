"""A segment as a Parquet file: records to columns, and columns back to records. The only importer of pyarrow.

Columns are ``offset``, ``timestamp``, ``key``, ``value`` and ``headers``, which make up the record, and those of
``archive_columns.py`` behind them. Each group of rows is a page a column: zstd then finds what events have in common over all
of the group, which is what makes an archive small, and a reader that is after one run takes the keys alone first.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import repeat
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import Struct

from runfold.fold.record import Headers, Record, hash_of_record
from runfold.fold.short_cut import in_columns
from runfold.log.archive_columns import COUNTS, TEXTS, TIMES, columns_of
from runfold.log.archive_folder import checksum_of, told_to_a_person
from runfold.log.archive_manifest import ArchiveDamaged, Segment

GROUP_RECORDS: Final = 60_000
GROUP_BYTES: Final = 16_000_000
"""A group of rows ends with whichever comes first; it is what a reader has to hold of a segment at least."""

_LEVEL = 3
"""Of zstd: 6 saves another 3 % of the file and costs a fifth more time, 9 saves 4 % and costs half as much again."""
_PAGE = 1 << 30
_TIME = pa.timestamp("ms", tz="UTC")
_HEADERS = pa.list_(pa.struct([("name", pa.string()), ("value", pa.binary())]))
_RECORD: Final = ["offset", "timestamp", "key", "value", "headers"]
_REPEATED: Final = ["key", "type", "run_id", "thread_id", "source", "assistant_id", "model", "metadata"]

SCHEMA: Final = pa.schema(
    [
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp", _TIME),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("headers", _HEADERS),
        *(pa.field(name, pa.string()) for name in TEXTS),
        *(pa.field(name, _TIME) for name in TIMES),
        *(pa.field(name, pa.int64()) for name in COUNTS),
    ]
)


class ArchivedRecord(Struct, frozen=True, gc=False):
    """A record as :class:`runfold.fold.record.Record` wants it, which costs half of what a named tuple does."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class SegmentWriter:
    """Writes one segment's file at ``path``; ``open`` comes first. All of it blocks, and belongs to one thread at a time.

    ``records`` and ``raw_bytes`` (keys and values) count what was written so far.
    """

    def __init__(self, path: Path, *, partition: int, begin: int) -> None:
        self._path, self._partition, self._begin = path, partition, begin
        self.records = self.raw_bytes = 0
        self._latest = -1
        self._last: Record | None = None
        self._file: BinaryIO | None = None
        self._parquet: Any = None

    def open(self) -> None:
        """Make the file. Raises LogUnreachable where that cannot be."""
        with told_to_a_person(self._path):
            self._file = self._path.open("w+b")
        self._parquet = pq.ParquetWriter(
            self._file,
            SCHEMA,
            compression="zstd",
            compression_level=_LEVEL,
            use_dictionary=_REPEATED,
            column_encoding=dict.fromkeys(("offset", "timestamp", *TIMES, "sequence"), "DELTA_BINARY_PACKED"),
            data_page_size=_PAGE,
            dictionary_pagesize_limit=_PAGE,
            max_rows_per_page=_PAGE,
            write_page_checksum=True,
            write_statistics=["offset", "timestamp", *TIMES],
        )

    def write(self, records: Sequence[Record]) -> None:
        """Write a group of rows, in order. Raises LogUnreachable where the disk does not take it."""
        table = _table_of(records)
        with told_to_a_person(self._path):
            self._parquet.write_table(table, row_group_size=len(records))
        self.records += len(records)
        self.raw_bytes += sum(len(record.key or b"") + len(record.value or b"") for record in records)
        self._latest = max(self._latest, *(record.timestamp for record in records))
        self._last = records[-1]

    def finish(self, end: int) -> Segment:
        """Make the file durable, as a segment up to ``end``. Raises LogUnreachable where the disk does not take it."""
        assert self._file is not None, "open() comes first"
        with told_to_a_person(self._path):
            self._parquet.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.seek(0)
            checksum = checksum_of(self._file)
            size = self._file.tell()
            self._file.close()
        return Segment(
            partition=self._partition,
            begin=self._begin,
            end=end,
            records=self.records,
            bytes=size,
            raw_bytes=self.raw_bytes,
            latest=self._latest,
            last_offset=None if self._last is None else self._last.offset,
            last_hash=None if self._last is None else hash_of_record(self._last).hex(),
            checksum=checksum,
        )

    def abandon(self) -> None:
        """Let go of a file that nobody wants any more; finished ones are not touched."""
        if self._parquet is not None:
            self._parquet.is_open = False  # or it writes a footer when it is collected, on a disk that may be full
        if self._file is not None:
            with suppress(OSError):  # what is still buffered, and can be written no more
                self._file.close()


class SegmentReader:
    """Reads the file of ``segment``; all of it blocks, and belongs to one thread at a time. Raises ArchiveDamaged.

    ``starts`` has the first offset of each group of rows.
    """

    def __init__(self, path: Path, segment: Segment) -> None:
        self._path, self._segment = path, segment
        with self._told():
            self._file = pq.ParquetFile(
                path, read_dictionary=["key"], page_checksum_verification=True, pre_buffer=False, buffer_size=0
            )
            groups = [self._file.metadata.row_group(number) for number in range(self._file.metadata.num_row_groups)]
            self.starts: list[int] = [group.column(0).statistics.min for group in groups]

    def records(self, group: int, *, key: bytes | None = None) -> Sequence[Record]:
        """The records of a group of rows, of one key if given."""
        with self._told():
            if key is None:
                batch = self._table(group, _RECORD)
                return _in_columns(batch) or _records_of(batch)
            if key not in self._table(group, ["key"]).column("key").dictionary.to_pylist():
                return []
            batch = self._table(group, _RECORD)
            keys = batch.column("key")
            wanted = keys.dictionary.to_pylist().index(key)
            return _records_of(batch.filter(pc.equal(keys.indices, wanted)))

    def first_at(self, group: int, time: int) -> int | None:
        """The first offset of a group that is stamped at or after ``time``; None where there is none."""
        with self._told():
            table = self._table(group, ["offset", "timestamp"])
            offsets, stamps = table.column("offset").to_pylist(), _stamps(table.column("timestamp"))
            return next((offset for offset, stamp in zip(offsets, stamps, strict=True) if stamp >= time), None)

    def close(self) -> None:
        self._file.close()

    def _table(self, group: int, columns: Sequence[str]) -> Any:
        """One group of rows, each column in one piece."""
        return self._file.read_row_group(group, columns=columns, use_threads=False).combine_chunks().to_batches()[0]

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, IndexError, ValueError) as error:
            raise ArchiveDamaged(
                f"{self._path} cannot be read ({error}): {self._segment.told} are lost with it; restore it from a copy"
            ) from error


def _table_of(records: Sequence[Record]) -> Any:
    values = [record.value for record in records]
    columns: dict[str, list[Any]] = {
        "offset": [record.offset for record in records],
        "timestamp": [record.timestamp if record.timestamp >= 0 else None for record in records],
        "key": [record.key for record in records],
        "value": values,
        "headers": [list(record.headers) or None for record in records],
        **columns_of(values),
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


def _in_columns(batch: Any) -> Sequence[Record] | None:
    """Rows as they lie, where all of them are as usual, and the fold's short cut was built."""
    offsets, stamps, keys, values, headers = (batch.column(name) for name in _RECORD)
    whole = (offsets, stamps, keys.indices, values)
    if (
        headers.null_count < len(batch)
        or keys.dictionary.null_count
        or any(each.null_count or each.offset for each in whole)
    ):
        return None
    (*_, offsets), (*_, stamps), (*_, keyed), (_, ends, data) = (each.buffers() for each in whole)
    if data is None:
        return None
    return in_columns(offsets, stamps, keyed, ends, data, names=keys.dictionary.to_pylist(), count=len(batch))


def _records_of(batch: Any) -> list[ArchivedRecord]:
    """Rows to records, a column at a time: nothing here is done for each row that pyarrow can do for all."""
    keys = batch.column("key")
    names = [*keys.dictionary.to_pylist(), None]
    indices = keys.indices.fill_null(len(names) - 1).to_pylist()
    records = map(
        ArchivedRecord,
        batch.column("offset").to_pylist(),
        _stamps(batch.column("timestamp")),
        map(names.__getitem__, indices),
        batch.column("value").to_pylist(),
        _headers(batch.column("headers")),
    )
    return list(records)


def _headers(column: Any) -> Iterable[tuple[tuple[str, bytes], ...]]:
    """Few records have any: the others share one empty tuple, without end."""
    if column.null_count == len(column):
        return repeat(())
    return [tuple((each["name"], each["value"]) for each in found or ()) for found in column.to_pylist()]


def _stamps(column: Any) -> list[int]:
    stamps: list[int] = column.cast(pa.int64()).fill_null(-1).to_pylist()
    return stamps
