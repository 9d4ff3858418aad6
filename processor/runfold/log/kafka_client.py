"""What can be asked of Kafka about one topic: which one it is, how far it reaches, and the records of one stretch.

Has connections of its own: Kafka answers a connection's questions in their order, and the consumer's long fetch would
hold up every other one for half a second. A question that fails for a passing reason is asked again until the request
timeout. Offsets are of records that are decided: what an open transaction wrote is beyond the end.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from aiokafka import errors
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import create_conn
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from msgspec import Struct

from runfold.fold.record import Record
from runfold.log.kafka_errors import meaning_of, told_to_a_person
from runfold.log.kafka_headers import LenientRecords
from runfold.log.kafka_options import Address, KafkaOptions
from runfold.log.kafka_security import client_arguments
from runfold.log.kafka_topic_id import NO_ID, TopicRequest
from runfold.log.kafka_unpacking import COMMITTED, Unpacked, joined
from runfold.log.port import LogError, LogMissing, LogUnreachable

T = TypeVar("T")

EARLIEST, LATEST = -2, -1
_PAUSE = 0.1
_HEARSAY_SECONDS = 0.3
"""Brokers hear of a new topic one after the other: one that knows none is asked again before that is believed."""
_WHY_SECONDS = 3.0
_FETCH_WAIT_MS = 100


class Topic(Struct, frozen=True):
    """What a cluster says of a topic now. ``leaders`` has the node of each partition, -1 where there is none.

    ``replicas`` and ``in_sync`` have how many copies there should be of each, and how many are up to date.
    """

    cluster_id: str
    topic_id: str
    leaders: Mapping[int, int]
    replicas: Mapping[int, int]
    in_sync: Mapping[int, int]


class Stretch(Struct, frozen=True):
    """Records from one fetch, and the offset to go on from, which may lie beyond gaps."""

    records: list[Record]
    following: int


def _stretch(unpacked: Unpacked) -> Stretch:
    return Stretch(joined(unpacked), unpacked.next_fetch_offset)


class KafkaClient:
    """Questions about the topic of ``address``. Started once; belongs to one event loop."""

    def __init__(self, address: Address, options: KafkaOptions) -> None:
        self._address, self._options = address, options
        self._client: Any = None
        self._leaders: Mapping[int, int] = {}

    async def start(self) -> Topic:
        """Connect, and see that the topic is there. Raises LogUnreachable, LogMissing or LogError."""
        await self.connect()
        try:
            topic = await self.topic()
        except LogMissing:
            await asyncio.sleep(_HEARSAY_SECONDS)
            topic = await self.topic()
        self._client.set_topics([self._address.topic])  # or it would ask for every topic of the cluster, ever again
        return topic

    async def connect(self) -> None:
        """Connect, whether the topic is there or not. Raises LogUnreachable or LogError."""
        arguments = client_arguments(self._address, self._options)
        self._client = AIOKafkaClient(**arguments)
        try:
            with told_to_a_person(self._address):
                await self._client.bootstrap()
        except LogUnreachable as error:
            raise await self._why(arguments) from error

    async def close(self) -> None:
        """Close the connections; a second close does nothing."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def topic(self) -> Topic:
        """The topic as it is now; it is not made where it is missing. Raises LogMissing."""
        return await self._until_answered(self._topic)

    async def topic_at(self, node: int) -> Topic:
        """The topic as one broker knows it. Raises what aiokafka raises."""
        return await self._topic(node)

    async def _topic(self, node: int | None = None) -> Topic:
        node = self._client.get_random_node() if node is None else node
        try:
            told = await self._client.send(node, TopicRequest(self._address.topic))
            (topic,) = told.topics
            error, _, topic_id, _, partitions, *_ = topic
        except NotImplementedError:  # a broker before 3.0: topics have no id there
            told = await self._client.send(
                node, MetadataRequest([self._address.topic], allow_auto_topic_creation=False)
            )
            ((error, _, _, older),) = told.topics
            topic_id, partitions = NO_ID, [(*each[:3], -1, *each[3:]) for each in older]
        if error and not (partitions and error == errors.LeaderNotAvailableError.errno):
            raise errors.for_code(error)
        self._leaders = {number: leader for _, number, leader, *_ in partitions}
        return Topic(
            cluster_id=told.cluster_id or "",
            topic_id="" if topic_id == NO_ID else str(topic_id),
            leaders=self._leaders,
            replicas={number: len(nodes) for _, number, _, _, nodes, *_ in partitions},
            in_sync={number: len(nodes) for _, number, _, _, _, nodes, *_ in partitions},
        )

    async def offsets(self, wanted: Mapping[int, int], *, isolation: int = COMMITTED) -> dict[int, int]:
        """Per partition the first offset at or after a time (Unix milliseconds), or EARLIEST or LATEST; -1 for none."""
        return await self._until_answered(lambda: self._offsets(wanted, isolation)) if wanted else {}

    async def _offsets(self, wanted: Mapping[int, int], isolation: int) -> dict[int, int]:
        by_node: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        for partition, time in wanted.items():
            by_node[self._leader(partition)].append((partition, time))
        answers = await asyncio.gather(
            *(
                self._client.send(node, OffsetRequest(-1, isolation, [(self._address.topic, asked)]))
                for node, asked in by_node.items()
            )
        )
        found = {}
        for answer in answers:
            for partition, error, _, offset, *_ in answer.topics[0][1]:
                _check(error)
                found[partition] = offset
        return found

    async def fetch(self, partition: int, offset: int, *, most_bytes: int, isolation: int = COMMITTED) -> Stretch:
        """What stands at an offset and after it, at least one whole batch; nothing at the end.

        Raises OffsetOutOfRangeError where the partition does not reach there.
        """
        return await self._until_answered(lambda: self._fetch(partition, offset, most_bytes, isolation))

    async def _fetch(self, partition: int, offset: int, most_bytes: int, isolation: int) -> Stretch:
        asked = [(self._address.topic, [(partition, offset, most_bytes)])]
        request = FetchRequest(_FETCH_WAIT_MS, 1, most_bytes, isolation, asked)
        answer = await self._client.send(self._leader(partition), request)
        ((_, (told,)),) = answer.topics
        _, error, _, _, *more = told
        _check(error)
        aborted = more[1] if answer.API_VERSION >= 5 else more[0]
        place = TopicPartition(self._address.topic, partition)
        try:
            return _stretch(Unpacked(place, MemoryRecords(more[-1]), aborted, offset, None, None, True, isolation))
        except UnicodeDecodeError:
            return _stretch(Unpacked(place, LenientRecords(more[-1]), aborted, offset, None, None, True, isolation))

    @property
    def client(self) -> Any:
        """Aiokafka's own client, for the modules beside this one."""
        return self._client

    def _leader(self, partition: int) -> int:
        node = self._leaders.get(partition, -1)
        if node < 0:
            raise errors.LeaderNotAvailableError(partition)
        return node

    async def _until_answered(self, ask: Callable[[], Awaitable[T]]) -> T:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._options.request_timeout_ms / 1000
        while True:
            try:
                return await ask()
            except errors.OffsetOutOfRangeError:
                raise
            except (errors.KafkaError, OSError, TimeoutError) as error:
                passing = getattr(error, "retriable", True) and not isinstance(
                    error, errors.UnknownTopicOrPartitionError
                )
                if not passing or loop.time() >= deadline:
                    raise meaning_of(error, self._address) from error
            await asyncio.sleep(_PAUSE)
            await self._look_again()

    async def _look_again(self) -> None:
        """Leaders and addresses may have changed; where nobody tells, the old ones are tried once more."""
        try:
            await self._topic()
            known = {broker.nodeId for broker in self._client.cluster.brokers()}
            if not known.issuperset(leader for leader in self._leaders.values() if leader >= 0):
                await self._client.force_metadata_update()
        except (errors.KafkaError, OSError, TimeoutError):
            return

    async def _why(self, arguments: dict[str, Any]) -> LogError:
        """Connect once more, because aiokafka keeps the reason of a failed start to itself."""
        host, _, port = self._address.servers.split(",")[0].rpartition(":")
        more = {
            name: value for name, value in arguments.items() if name not in {"bootstrap_servers", "metadata_max_age_ms"}
        }
        try:
            async with asyncio.timeout(_WHY_SECONDS):
                connection = await create_conn(host.strip("[]"), int(port), **more)
        except (errors.KafkaError, OSError, TimeoutError) as error:
            return meaning_of(error, self._address)
        connection.close()
        return LogUnreachable(f"RUNFOLD_LOG: Kafka at {self._address.servers} does not answer")


def _check(error: int) -> None:
    if error:
        raise errors.for_code(error)
