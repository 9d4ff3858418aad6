"""Reading a Kafka topic: one consumer that is told what to read, and from where, by whoever owns the partitions.

No group protocol: partitions are assigned, positions come from the store, and Kafka is told of them only so that its own
tools can show a lag. Nothing here may ever reset an offset: a lost range is told, never jumped. How records are taken from
the consumer is in ``kafka_buffers.py``; what else is asked of Kafka goes through ``kafka_client.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, errors

from runfold.fold.record import Record
from runfold.log.kafka_buffers import KafkaBuffers
from runfold.log.kafka_client import EARLIEST, LATEST, KafkaClient, Stretch, Topic
from runfold.log.kafka_errors import made_anew, meaning_of, told_to_a_person
from runfold.log.kafka_logging import throttle_client_logs
from runfold.log.kafka_options import Address, KafkaOptions
from runfold.log.kafka_progress import ProgressHint
from runfold.log.kafka_security import client_arguments
from runfold.log.kafka_unpacking import COMMITTED, WRITTEN, take_by_batches
from runfold.log.port import HeldBack, LogCutShort, LogError, LogIdentity, LogMissing, Range, RangeLost

_IDENTITY_SECONDS = 1.0
"""How often it is looked whether the topic is still the one that was opened, while records come from it."""

_ONE_RECORD_BYTES = 65_536
"""A fetch for one record gives the batch it is in, whole, whatever is asked for; this bounds what comes behind."""

_LENIENT_BYTES = 1_000_000
_LIST_RECORDS = 2_000


class KafkaSource:
    """Reads the topic of ``address``; see :class:`runfold.log.port.LogSource`. Belongs to one event loop."""

    def __init__(self, address: Address, options: KafkaOptions) -> None:
        self._address, self._options = address, options
        self._client = KafkaClient(address, options)
        self._consumer: Any = None
        self._hint: ProgressHint | None = None
        self._identity: LogIdentity
        self._look_again_at = 0.0
        self._leaders_told = False
        self._buffers: KafkaBuffers

    async def start(self) -> None:
        """As the port says. Raises LogError too, where Kafka refuses or a security setting cannot be used."""
        throttle_client_logs()
        await self.close()  # what a start that failed has left: whoever waits for a topic tries again and again
        self._identity = _identity_of(await self._client.start(), self._address)
        options = self._options
        self._consumer = AIOKafkaConsumer(
            **client_arguments(self._address, options),
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            max_partition_fetch_bytes=options.max_partition_fetch_bytes,
            fetch_max_bytes=options.fetch_max_bytes,
            client_rack=options.client_rack or None,
        )
        with told_to_a_person(self._address):
            await self._consumer.start()
        take_by_batches(self._consumer)
        self._consumer._client.cluster.add_listener(self._note_leaders)  # noqa: SLF001 - see _look_at_topic
        self._buffers = KafkaBuffers(self._consumer, self._address.topic)
        self._hint = ProgressHint(self._client, self._address.topic, options)

    async def close(self) -> None:
        """As the port says: what was folded is told to Kafka once more, then all connections are closed."""
        hint, self._hint = self._hint, None
        if hint is not None:
            await hint.close()
        consumer, self._consumer = self._consumer, None
        try:
            if consumer is not None:
                await consumer.stop()
        finally:
            await self._client.close()

    async def identity(self) -> LogIdentity:
        """Which topic has the name now, which need not be the one that was opened."""
        return _identity_of(await self._client.topic(), self._address)

    async def partitions(self) -> int:
        """How many there are now: a topic can grow."""
        return len((await self._client.topic()).leaders)

    async def ranges(self, partitions: Sequence[int]) -> dict[int, Range]:
        """Begin and end, the end being the last stable offset: what an open transaction wrote may never come to be."""
        begins, ends = await asyncio.gather(
            self._client.offsets(dict.fromkeys(partitions, EARLIEST)),
            self._client.offsets(dict.fromkeys(partitions, LATEST)),
        )
        return {which: Range(begins[which], ends[which]) for which in partitions}

    async def held_back(self, partitions: Sequence[int]) -> dict[int, HeldBack]:
        """As the port says: where the high watermark is above the last stable offset."""
        stable = await self._client.offsets(dict.fromkeys(partitions, LATEST), isolation=COMMITTED)
        written = await self._client.offsets(dict.fromkeys(partitions, LATEST), isolation=WRITTEN)
        found = {}
        for which in partitions:
            if written[which] > stable[which]:
                first = await self._client.fetch(which, stable[which], most_bytes=_ONE_RECORD_BYTES, isolation=WRITTEN)
                since = first.records[0].timestamp if first.records else -1
                found[which] = HeldBack(written[which] - stable[which], since)
        return found

    async def offsets_for_time(self, partitions: Sequence[int], time: int) -> dict[int, int]:
        """As the port says."""
        found = await self._client.offsets(dict.fromkeys(partitions, max(0, time)))
        late = [which for which, offset in found.items() if offset < 0]
        ends = await self._client.offsets(dict.fromkeys(late, LATEST))
        return found | ends

    async def record_at(self, partition: int, offset: int) -> Record | None:
        """As the port says; None also where a transaction's marker or an aborted record stands."""
        held = (await self.ranges([partition]))[partition]
        if not held.begin <= offset < held.end:
            return None
        try:
            stretch = await self._client.fetch(partition, offset, most_bytes=_ONE_RECORD_BYTES)
        except errors.OffsetOutOfRangeError:
            return None
        return next((record for record in stretch.records[:1] if record.offset == offset), None)

    def assign(self, positions: Mapping[int, int]) -> None:
        """As the port says."""
        self._buffers.assign(positions)
        if self._hint is not None:
            self._hint.keep_only(positions)

    def position(self, partition: int) -> int:
        """As the port says: beyond the last record given, and beyond markers and aborted records behind it."""
        return self._buffers.positions[partition]

    def tell_progress(self, positions: Mapping[int, int]) -> None:
        """As the port says: committed under the group's name, now and then, and as a hint only."""
        if self._hint is not None:
            self._hint.tell(positions)

    async def fetch(self, *, most_records: int, most_bytes: int, wait: float) -> dict[int, list[Record]]:
        """As the port says. Raises LogCutShort where a position is beyond the log, LogMissing where the topic is gone."""
        if not self._buffers.positions:
            await asyncio.sleep(wait)
            return {}
        try:
            await self._buffers.wait_for_first(wait)
            assigned = self._buffers.positions
            batch = await self._buffers.take(most_records, most_bytes)
        except errors.OffsetOutOfRangeError as error:
            raise await self._why_out_of_range(error) from error
        except errors.KafkaError as error:
            raise meaning_of(error, self._address) from error
        except UnicodeDecodeError:
            await self._take_leniently()
            return {}
        try:
            await self._look_at_topic()
        except BaseException:
            self._buffers.put_back(batch, assigned)
            raise
        return batch if self._buffers.positions is assigned else {}

    async def _take_leniently(self) -> None:
        """Have what stands at every position ready for the next fetch: aiokafka refuses one of them and does not say which."""
        assigned = self._buffers.positions
        for partition, position in list(assigned.items()):
            with suppress(errors.OffsetOutOfRangeError):  # the consumer will say so itself
                stretch = await self._client.fetch(partition, position, most_bytes=_LENIENT_BYTES)
                if self._buffers.positions is not assigned:
                    return
                self._buffers.hold(partition, stretch.records, stretch.following)

    async def read(
        self, partition: int, *, begin: int, end: int, key: bytes | None = None
    ) -> AsyncIterator[list[Record]]:
        """As the port says. Raises RangeLost where ``begin`` is below the log's begin, also when it comes to be so.

        The next stretch is on its way while one is being used.
        """
        held = (await self.ranges([partition]))[partition]
        end = min(end, held.end)
        ahead: asyncio.Task[Stretch] | None = None
        try:
            while begin < end:
                if begin < held.begin:
                    raise RangeLost(partition=partition, wanted=begin, begin=held.begin)
                try:
                    stretch = await (ahead or self._stretch(partition, begin))
                except errors.OffsetOutOfRangeError as error:
                    ahead, held = None, (await self.ranges([partition]))[partition]
                    if held.begin <= begin:
                        raise LogCutShort(partition=partition, wanted=begin, end=held.end) from error
                    continue
                begin = stretch.following
                ahead = asyncio.create_task(self._stretch(partition, begin)) if begin < end else None
                found = stretch.records
                if begin > end:  # the last stretch may lie across it
                    found = [each for each in found if each.offset < end]
                if key is not None:
                    found = [each for each in found if each.key == key]
                for first in range(0, len(found), _LIST_RECORDS):
                    yield found[first : first + _LIST_RECORDS]
        finally:
            if ahead is not None:
                ahead.cancel()
                await asyncio.gather(ahead, return_exceptions=True)

    async def _stretch(self, partition: int, begin: int) -> Stretch:
        return await self._client.fetch(partition, begin, most_bytes=self._options.max_partition_fetch_bytes)

    def _note_leaders(self, _: Any) -> None:
        self._leaders_told = True

    async def _look_at_topic(self) -> None:
        """Raise LogMissing where the topic is gone or made anew, and leave off reading: aiokafka would ask without pause.

        It is looked after records were taken and before they are given, so that they come from the topic it finds: now
        and then, and always when aiokafka asks for the topic's leaders, as it does when a fetch from it has failed. That is
        what a topic does that is deleted under a living reader.
        """
        now = asyncio.get_running_loop().time()
        asking = self._consumer._client._md_update_fut is not None  # noqa: SLF001 - there is no other way to know
        if now < self._look_again_at and not asking and not self._leaders_told:
            return
        self._leaders_told = False
        try:
            identity = await self.identity()
            if identity != self._identity:
                raise made_anew(self._address)
        except LogMissing:
            self._consumer.unsubscribe()
            raise
        self._look_again_at = now + _IDENTITY_SECONDS

    async def _why_out_of_range(self, error: errors.OffsetOutOfRangeError) -> LogError:
        """Kafka says the same of an offset that is gone and of one that is not there yet."""
        (asked,) = error.args
        ((place, position),) = asked.items()
        held = (await self.ranges([place.partition]))[place.partition]
        if position < held.begin:
            return RangeLost(partition=place.partition, wanted=position, begin=held.begin)
        return LogCutShort(partition=place.partition, wanted=position, end=held.end)


def _identity_of(topic: Topic, address: Address) -> LogIdentity:
    """A topic made anew has another id. Brokers before 3.0 tell none: there the last record read has to suffice."""
    which = f"{topic.cluster_id}/{topic.topic_id}" if topic.topic_id else topic.cluster_id
    return LogIdentity(which, address.topic)
