"""Writing a Kafka topic: idempotent, acknowledged by all replicas in sync, to the partitions that Java's producer would use.

Records go as batches that are built here, one after the other for each partition: a batch costs two thirds of what its
records cost when each is sent by itself. aiokafka repeats a batch until Kafka has taken it, without limit. When the
delivery timeout is over, the producer is given up with all that it holds, and the next call starts a new one: what was on
its way may come to stand twice, which readers see by the ids, but nothing is sent later, out of its order.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any

from aiokafka import AIOKafkaProducer, errors

from runfold.fold.record import Headers, Record
from runfold.log.clock import wall_clock
from runfold.log.kafka_client import KafkaClient
from runfold.log.kafka_errors import made_anew, meaning_of, told_to_a_person
from runfold.log.kafka_logging import throttle_client_logs
from runfold.log.kafka_options import Address, KafkaOptions
from runfold.log.kafka_security import client_arguments
from runfold.log.partitioner import key_hash
from runfold.log.port import LogError, LogUnreachable, Message, Place

_Stamped = tuple[int, bytes | None, bytes | None, Headers]
"""A record's timestamp, key, value and headers."""

UNKNOWN_OFFSET = -1
"""Of a record that the log has, but whose place Kafka no longer knew when it was asked a second time."""

_LOOK_SECONDS = 2.0
_CANCEL_SECONDS = 0.1


class KafkaSink:
    """Writes the topic of ``address``; see :class:`runfold.log.port.LogSink`. Belongs to one event loop.

    ``clock`` gives Unix milliseconds. Records are stamped with the time of appending, which never goes back here.
    """

    def __init__(self, address: Address, options: KafkaOptions, *, clock: Callable[[], int] = wall_clock) -> None:
        self._address, self._options, self._clock = address, options, clock
        self._client = KafkaClient(address, options)
        self._producer: Any = None
        self._topic_id = ""
        self._partitions = 0
        self._look_again_at = 0.0
        self._latest = 0
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """As the port says; the topic has to be there: `runfold topic create` makes it. Raises LogMissing."""
        throttle_client_logs()
        topic = await self._client.start()
        self._topic_id, self._partitions = topic.topic_id, len(topic.leaders)
        await self._started()

    async def close(self) -> None:
        """As the port says. Nothing is on its way then but what a cancelled append left."""
        producer, self._producer = self._producer, None
        try:
            if producer is not None:
                await _give_up(producer)
        finally:
            await self._client.close()

    async def append(self, messages: Sequence[Message]) -> list[Place]:
        """Write the messages, in order within each partition. Returns where each one stands.

        Not all or nothing: Kafka writes each partition's share by itself, and where one fails others may be in the log.
        Raises LogUnreachable when the delivery timeout is over, LogMissing where the topic is gone, else LogError.
        """
        if not messages:
            return []
        await self._look_at_topic()
        producer = await self._started()
        shares = self._shares(messages)
        stamp = self._latest = max(self._latest, self._clock())
        sending = [
            asyncio.create_task(self._send(producer, partition, [(stamp, *messages[index]) for index in share]))
            for partition, share in shares.items()
        ]
        await self._delivered(producer, sending)
        return _places(shares, [each.result() for each in sending], len(messages))

    async def append_stamped(self, partition: int, records: Sequence[Record]) -> None:
        """Write records of another log to one partition, in order, with the timestamps they have. Raises as append does."""
        await self._look_at_topic()
        producer = await self._started()
        for _, alike in groupby(records, key=lambda record: record.timestamp < 0):  # aiokafka takes -1 for not told yet
            stamped = [(record.timestamp, record.key, record.value, record.headers) for record in alike]
            await self._delivered(producer, [asyncio.create_task(self._send(producer, partition, stamped))])

    async def _delivered(self, producer: Any, sending: Sequence[asyncio.Task[list[int]]]) -> None:
        """Wait until all is delivered; where it is not, the producer is given up."""
        try:
            await self._until_delivered(sending)
        except (errors.KafkaError, LogError) as error:
            await self._drop(producer)
            raise meaning_of(error, self._address) if isinstance(error, errors.KafkaError) else error from error
        finally:
            for each in sending:
                each.cancel()

    async def _until_delivered(self, sending: Sequence[asyncio.Task[list[int]]]) -> None:
        """Wait for Kafka, as long as the topic is there: aiokafka repeats for ever, and without pause where it is not."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._options.delivery_timeout_ms / 1000
        waiting: set[asyncio.Task[list[int]]] = set(sending)
        while waiting:
            done, waiting = await asyncio.wait(waiting, timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_EXCEPTION)
            for each in done:
                each.result()
            if waiting and loop.time() >= deadline:
                raise LogUnreachable(
                    f"RUNFOLD_LOG: Kafka at {self._address.servers} has not taken all records for {self._address.topic} "
                    f"within RUNFOLD_KAFKA_DELIVERY_TIMEOUT_MS ({self._options.delivery_timeout_ms})"
                )
            if waiting:
                with suppress(LogUnreachable):
                    await self._look_at_topic()

    def _shares(self, messages: Sequence[Message]) -> dict[int, list[int]]:
        """Which messages, by their place in the call, go to each partition."""
        shares: defaultdict[int, list[int]] = defaultdict(list)
        for index, message in enumerate(messages):
            shares[key_hash(message.key) % self._partitions].append(index)
        return shares

    async def _send(self, producer: Any, partition: int, stamped: Sequence[_Stamped]) -> list[int]:
        """Send one partition's share, batch behind batch. Returns the offset of each message."""
        sent: list[tuple[Any, int]] = []
        batch = producer.create_batch()
        for stamp, key, value, headers in stamped:
            told = list(headers)  # aiokafka's builder takes nothing else
            if batch.append(timestamp=stamp, key=key, value=value, headers=told) is None:
                sent.append(await self._submit(producer, batch, partition))
                batch = producer.create_batch()
                batch.append(timestamp=stamp, key=key, value=value, headers=told)
        sent.append(await self._submit(producer, batch, partition))
        offsets: list[int] = []
        for delivered, count in sent:
            first = (await delivered).offset
            offsets += range(first, first + count) if first >= 0 else [UNKNOWN_OFFSET] * count
        return offsets

    async def _submit(self, producer: Any, batch: Any, partition: int) -> tuple[Any, int]:
        """Queue a batch, once the one before it is on its way. Returns its future, and how many records it has."""
        batch.close()  # or aiokafka would add to it what others send
        delivered = await producer.send_batch(batch, self._address.topic, partition=partition)
        delivered.add_done_callback(_look)
        return delivered, batch.record_count()

    async def _started(self) -> Any:
        """The producer, started anew where the last one was given up."""
        async with self._starting:
            if self._producer is None:
                self._producer = await self._start_producer()
            return self._producer

    async def _start_producer(self) -> Any:
        compression = self._options.compression_type
        producer = AIOKafkaProducer(
            **client_arguments(self._address, self._options),
            enable_idempotence=True,
            acks="all",
            compression_type=None if compression == "none" else compression,
            max_batch_size=self._options.batch_size,
        )
        try:
            with told_to_a_person(self._address):
                async with asyncio.timeout(self._options.request_timeout_ms / 1000):  # it asks for its id without limit
                    await producer.start()
        except BaseException:
            await _give_up(producer)
            raise
        return producer

    async def _drop(self, producer: Any) -> None:
        if self._producer is producer:
            self._producer = None
            await _give_up(producer)

    async def _look_at_topic(self) -> None:
        """Now and then: has the topic grown, or is it another one? Java's producer too goes on with what it finds."""
        now = asyncio.get_running_loop().time()
        if now < self._look_again_at:
            return
        topic = await self._client.topic()
        if topic.topic_id != self._topic_id:
            raise made_anew(self._address)
        if len(topic.leaders) != self._partitions and self._producer is not None:
            await self._producer.client.force_metadata_update()
            self._partitions = len(await self._producer.partitions_for(self._address.topic))
        self._look_again_at = now + _LOOK_SECONDS


def _places(shares: dict[int, list[int]], offsets: Sequence[list[int]], count: int) -> list[Place]:
    places = [Place(-1, UNKNOWN_OFFSET)] * count
    for (partition, share), of_share in zip(shares.items(), offsets, strict=True):
        for index, offset in zip(share, of_share, strict=True):
            places[index] = Place(partition, offset)
    return places


async def _give_up(producer: Any) -> None:
    """End a producer without waiting for what it holds: its own stop would, as long as Kafka does not answer."""
    producer._closed = True  # noqa: SLF001 - there is no other way; its stop() then does nothing, and its end is no warning
    sender = producer._sender.sender_task  # noqa: SLF001
    while sender is not None and not sender.done():
        sender.cancel()  # each time one of the requests that it waits for
        await asyncio.wait((sender,), timeout=_CANCEL_SECONDS)
    await producer.client.close()


def _look(delivered: asyncio.Future[Any]) -> None:
    """Take note of what became of a batch that nobody waits for any more, or asyncio complains."""
    if not delivered.cancelled():
        delivered.exception()
