"""Fetched bytes to records, a list for each of Kafka's batches: one by one, aiokafka's way costs as much as folding them.

Which batches are given, and where to go on, is decided as aiokafka does it, by its own methods; what is left out are an object
of eleven fields and a generator's turn for each record.
"""

# ruff: noqa: SLF001 - aiokafka has no hook for it

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from aiokafka import errors
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.structs import TopicPartition

from runfold.fold.record import Record, StoredRecord

COMMITTED, WRITTEN = 1, 0
"""Isolation levels: up to the last stable offset, or up to the high watermark."""

_new = tuple.__new__  # a named tuple without the detour over its own __new__: half the time


class Unpacked(PartitionRecords):  # type: ignore[misc]  # it is Any: aiokafka has no types
    """Iterates over a fetch's batches, each a list of records. ``next_fetch_offset`` is behind what was given last.

    Raises CorruptRecordException, and UnicodeDecodeError where a header's name is no text (``kafka_headers.py``).
    """

    next_fetch_offset: int

    def _unpack_records(self) -> Iterator[list[StoredRecord]]:
        while self._records.has_next():
            batch = self._records.next_batch()
            if not batch.validate_crc():
                raise errors.CorruptRecordException(f"Invalid CRC - {self._tp}")
            records: list[StoredRecord] = []
            if not (self._is_aborted(batch) or batch.is_control_batch):
                records = [
                    _new(StoredRecord, (each.offset, each.timestamp, each.key, each.value, each.headers or ()))
                    for each in batch
                ]
                if records and records[0].offset < self.next_fetch_offset:  # a batch is fetched whole
                    records = [record for record in records if record.offset >= self.next_fetch_offset]
            self.next_fetch_offset = batch.next_offset  # it may lie beyond records that were compacted away
            if records:
                yield records

    def _is_aborted(self, batch: Any) -> bool:
        if self._isolation_level != COMMITTED or batch.producer_id is None:
            return False
        self._consume_aborted_up_to(batch.base_offset)
        if batch.is_control_batch and self._contains_abort_marker(batch):
            self._aborted_producers.discard(batch.producer_id)
        return batch.is_transactional and batch.producer_id in self._aborted_producers


class _Arrivals(OrderedDict[TopicPartition, Any]):
    """What has been fetched and waits to be taken, by partition, as the consumer's fetcher keeps it: to be unpacked our way."""

    def __setitem__(self, place: TopicPartition, arrived: Any) -> None:
        if type(arrived) is FetchResult:
            arrived._partition_records = _unpacked_our_way(arrived._partition_records)
        super().__setitem__(place, arrived)


def _unpacked_our_way(theirs: Any) -> Unpacked:
    """The same, of which nothing has been taken yet."""
    theirs._records_iterator = None  # it refers back: what was fetched would stay until a collector came by
    begin, isolation = theirs.next_fetch_offset, theirs._isolation_level
    return Unpacked(theirs._tp, theirs._records, theirs._aborted_transactions, begin, None, None, True, isolation)


def take_by_batches(consumer: Any) -> None:
    """From now on ``getmany`` of this started consumer, which has no partitions yet, gives and counts batches, not records."""
    consumer._fetcher._records = _Arrivals()


def joined(batches: Iterable[list[StoredRecord]]) -> list[Record]:
    """The batches' records, in their order."""
    return list(chain.from_iterable(batches))
