"""What the consumer has fetched, and how it is handed out: by partition in turn, bounded by records and by bytes.

aiokafka knows no bound in bytes, and serves partitions in the order in which they came. Three things must stay as they are.
After an assignment every partition is sought before anything is awaited: aiokafka has forgotten all positions then. A
position is read where nothing was awaited since the records were taken: it moves with them, and past markers and aborted
records too. And a call that does not wait (timeout 0) never gives way to others, which both rest on.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate, takewhile
from typing import Any

from aiokafka import errors
from aiokafka.structs import TopicPartition

from runfold.fold.record import Record, bytes_of
from runfold.log.kafka_unpacking import joined

_REFUSALS = (errors.KafkaError, UnicodeDecodeError)
"""What aiokafka raises of a partition; the second where a header's name is no text (``kafka_headers.py``)."""


class KafkaBuffers:
    """Hands out what ``consumer`` fetches of a topic. ``positions`` is a new mapping after every assignment."""

    def __init__(self, consumer: Any, topic: str) -> None:
        self._consumer, self._topic = consumer, topic
        self._held: dict[int, list[Record]] = {}  # taken from the consumer, by batches, and not handed out yet
        self._turn = 0
        self.positions: dict[int, int] = {}

    def assign(self, positions: Mapping[int, int]) -> None:
        """Read these partitions from now on, each from its position, and forget all others."""
        self.positions = dict(positions)
        self._held.clear()
        if not positions:
            self._consumer.unsubscribe()
            return
        self._consumer.assign([self._place(partition) for partition in positions])
        for partition, position in positions.items():
            self._consumer.seek(self._place(partition), position)

    async def wait_for_first(self, wait: float) -> None:
        """Return as soon as there is a record to take, or when ``wait`` seconds are over. Raises what aiokafka raises."""
        if self._held or wait <= 0:
            return
        assigned = self.positions
        found = await self._consumer.getmany(timeout_ms=wait * 1000, max_records=1)
        if self.positions is assigned:
            for place, batches in found.items():
                self._held[place.partition] = joined(batches)

    async def take(self, most_records: int, most_bytes: int) -> dict[int, list[Record]]:
        """What is there, up to the bounds, moving the positions; does not wait. One record is given whatever its size.

        Raises what aiokafka raises of a partition, unless there are records to give: then it comes with the next call.
        """
        batch: dict[int, list[Record]] = {}
        for partition in self._in_turn():
            try:
                records, size = await self._take_from(partition, most_records, most_bytes, alone=not batch)
            except _REFUSALS:
                if not batch:
                    raise
                break
            if records:
                batch[partition] = records
                most_records -= len(records)
                most_bytes -= size
            if most_records <= 0 or most_bytes <= 0:
                break
        await self._move(batch)
        return batch

    def put_back(self, batch: Mapping[int, list[Record]], assigned: Mapping[int, int]) -> None:
        """Undo a take, unless partitions were assigned anew since."""
        if self.positions is assigned:
            for partition, records in batch.items():
                self._held[partition] = records + self._held.get(partition, [])
                self.positions[partition] = records[0].offset

    def hold(self, partition: int, records: list[Record], following: int) -> None:
        """Hand these out next, read elsewhere from the partition's position up to ``following``, if none are there."""
        if partition not in self._held:
            self._consumer.seek(self._place(partition), following)
            if records:
                self._held[partition] = records

    def _in_turn(self) -> list[int]:
        order = list(self.positions)
        self._turn = (self._turn + 1) % len(order)
        return order[self._turn :] + order[: self._turn]

    async def _take_from(
        self, partition: int, most_records: int, most_bytes: int, *, alone: bool
    ) -> tuple[list[Record], int]:
        """Records of one partition up to the bounds, and their bytes; what does not fit is held.

        ``alone``: nothing has been taken yet, so that one record is given whatever its size.
        """
        taken: list[Record] = []
        size, asked = 0, 1
        while len(taken) < most_records and size < most_bytes:
            try:
                more = self._held.pop(partition, None) or await self._from_consumer(partition, asked)
            except _REFUSALS:
                if not taken:
                    raise
                break
            if not more:
                break
            fitting, their_size = _fitting(more, most_records - len(taken), most_bytes - size)
            if alone and not taken and not fitting:
                fitting, their_size = 1, bytes_of(more[:1])
            taken += more[:fitting]
            size += their_size
            if fitting < len(more):
                self._held[partition] = more[fitting:]
                break
            # As many more batches of such a size as there is room for: what is taken beyond it stays in memory.
            asked *= min((most_records - len(taken)) // len(more), (most_bytes - size) // max(1, their_size))
            asked = max(1, asked)
        return taken, size

    async def _from_consumer(self, partition: int, batches: int) -> list[Record]:
        place = self._place(partition)
        found = await self._consumer.getmany(place, timeout_ms=0, max_records=batches)
        return joined(found.get(place, ()))

    async def _move(self, batch: Mapping[int, list[Record]]) -> None:
        for partition in self.positions:
            if partition not in self._held:
                self.positions[partition] = await self._consumer.position(self._place(partition))
            elif partition in batch:
                self.positions[partition] = batch[partition][-1].offset + 1

    def _place(self, partition: int) -> TopicPartition:
        return TopicPartition(self._topic, partition)


def _fitting(records: list[Record], most_records: int, most_bytes: int) -> tuple[int, int]:
    """How many of the records, from the first on, are within the bounds, and how many bytes they are."""
    records = records[:most_records]
    size = bytes_of(records)
    if size <= most_bytes:
        return len(records), size
    sizes = accumulate(len(record.value or b"") for record in records)
    within = list(takewhile(lambda size: size <= most_bytes, sizes))
    return len(within), within[-1] if within else 0
