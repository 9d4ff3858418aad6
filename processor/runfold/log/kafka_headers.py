"""Records whose headers have names that are no text: a client in C can write what aiokafka then refuses to read, ever again.

A record's header is nothing that the fold looks at, so the record is read like any other, and what is no UTF-8 in the name is
shown by backslashes. aiokafka's own parser is used, the one that it has in Python: given bytes that decode so.
"""

from __future__ import annotations

from typing import Any

from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy


class LenientRecords:
    """What aiokafka's MemoryRecords are to its PartitionRecords, for fetched bytes; checks the sums of its batches itself."""

    def __init__(self, fetched: bytes) -> None:
        self._records = _MemoryRecordsPy(fetched)

    def has_next(self) -> bool:
        return bool(self._records.has_next())

    def next_batch(self) -> Any:
        """The next batch. Raises CorruptRecordException."""
        found = self._records._next_slice  # noqa: SLF001 - the batch would be made by the parser that refuses
        strict = self._records.next_batch()
        if not strict.validate_crc():
            raise CorruptRecordException("Invalid CRC")
        if not isinstance(strict, DefaultRecordBatch):  # of formats that have no headers
            return strict
        batch = _DefaultRecordBatchPy(found)
        batch._maybe_uncompress()  # noqa: SLF001
        batch._buffer = _Lenient(batch._buffer)  # noqa: SLF001
        return batch


class _Lenient(bytearray):
    """Bytes of which any slice can be decoded."""

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return _Lenient(found) if isinstance(at, slice) else found

    def decode(self, encoding: str = "utf-8", _errors: str = "") -> str:
        return super().decode(encoding, "backslashreplace")
