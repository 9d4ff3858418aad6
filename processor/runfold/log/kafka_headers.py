"""Records whose headers have names that are no text: a client in C can write what aiokafka then refuses to read, ever again.

A record's header is nothing that the fold looks at, so the record is read like any other, and what is no UTF-8 in the name is
shown by backslashes. aiokafka's own parser is used, the one that it has in Python: given bytes that decode so.
"""

from __future__ import annotations

from typing import Any

from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy


class LenientRecords:
    """What aiokafka's MemoryRecords are to its PartitionRecords, for fetched bytes."""

    def __init__(self, fetched: bytes) -> None:
        self._records = _MemoryRecordsPy(fetched)

    def has_next(self) -> bool:
        return bool(self._records.has_next())

    def next_batch(self) -> Any:
        found = self._records._next_slice  # noqa: SLF001 - the batch is made by the parser that refuses
        batch = self._records.next_batch()
        return _LenientBatch(found) if isinstance(batch, DefaultRecordBatch) else batch  # older formats have no headers


class _LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]  # it is Any: aiokafka has no types
    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer: bytearray = _Lenient(self._buffer)


class _Lenient(bytearray):
    """Bytes of which any slice can be decoded."""

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return _Lenient(found) if isinstance(at, slice) else found

    def decode(self, encoding: str = "utf-8", _errors: str = "") -> str:
        return super().decode(encoding, "backslashreplace")
