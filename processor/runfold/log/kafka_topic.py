"""Making the topic that is a log, and looking for settings of it that endanger data.

What a topic is made with, and what a topic is checked for, stand here side by side: whoever changes one looks at the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Self

from aiokafka import errors
from aiokafka.protocol.admin import CreateTopicsRequest, DescribeConfigsRequest
from msgspec import Struct

from runfold.log.kafka_client import KafkaClient, Topic
from runfold.log.kafka_errors import told_to_a_person
from runfold.log.kafka_logging import throttle_client_logs
from runfold.log.kafka_options import Address, KafkaOptions
from runfold.log.port import LogError, LogExists, LogUnreachable

DAY = 86_400_000
FOREVER = -1
LARGEST_BATCH = 1_048_588
"""Kafka's own default of max.message.bytes; room for an event of 1,000,000 bytes, which is the largest there may be."""

_TOPIC, _BROKER = 2, 4
_PAUSE = 0.1


class Finding(Struct, frozen=True):
    """A setting, what it is, what follows from it, and whether that endangers data."""

    setting: str
    value: str
    told: str
    endangers: bool = True


class KafkaTopic:
    """The topic of ``address``, which need not be there yet. ``async with`` connects and closes."""

    def __init__(self, address: Address, options: KafkaOptions) -> None:
        self._address, self._options = address, options
        self._client = KafkaClient(address, options)

    async def __aenter__(self) -> Self:
        throttle_client_logs()
        try:
            await self._client.connect()
        except BaseException:
            await self._client.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def create(self, *, partitions: int, replicas: int | None, retention_ms: int) -> dict[str, str]:
        """Make the topic and wait until each partition is served. Returns its settings.

        ``replicas`` None is three, or as many as there are brokers; ``retention_ms`` FOREVER keeps all. Raises
        LogExists, and LogError where Kafka refuses.
        """
        copies = replicas or min(3, len(self._brokers()))
        settings = settings_of(copies=copies, retention_ms=retention_ms)
        timeout = self._options.request_timeout_ms
        wanted: tuple[object, ...] = (self._address.topic, partitions, copies, [], list(settings.items()))
        request = CreateTopicsRequest([wanted], timeout, False)
        with told_to_a_person(self._address):
            answer = await self._client.client.send(self._controller(), request)
        ((_, error, message, *_),) = answer.topic_errors
        if error == errors.TopicAlreadyExistsError.errno:
            raise LogExists(
                f"RUNFOLD_LOG: there is a topic {self._address.topic}; look at it with `runfold topic check`"
            )
        if error:
            raise LogError(f"RUNFOLD_LOG: {self._address.topic}: {message or errors.for_code(error).__name__}")
        await self._until_served(partitions)
        return {"partitions": str(partitions), "replication.factor": str(copies), **settings}

    def _controller(self) -> int:
        cluster = self._client.client.cluster
        node: int = cluster.controller.nodeId if cluster.controller else self._client.client.get_random_node()
        return node

    async def _until_served(self, partitions: int) -> None:
        try:
            async with asyncio.timeout(self._options.request_timeout_ms / 1000):
                while not await self._is_served(partitions):  # noqa: ASYNC110 - nobody tells, Kafka has to be asked
                    await asyncio.sleep(_PAUSE)
        except TimeoutError as error:
            raise LogUnreachable(
                f"RUNFOLD_LOG: {self._address.topic} was made, but not all of it is served yet"
            ) from error

    async def _is_served(self, partitions: int) -> bool:
        """Whether every broker that answers knows who serves each partition: they hear of it one after the other."""
        for node in self._brokers():
            try:
                leaders = (await self._client.topic_at(node)).leaders
            except errors.UnknownTopicOrPartitionError:
                return False
            except (errors.KafkaError, OSError, TimeoutError):
                continue  # it is down, and will have heard of it when it is back
            if len(leaders) < partitions or any(leader < 0 for leader in leaders.values()):
                return False
        return True

    def _brokers(self) -> list[int]:
        return sorted(broker.nodeId for broker in self._client.client.cluster.brokers())

    async def check(self) -> list[Finding]:
        """What is noteworthy about the topic, dangers first. Raises LogMissing where there is none."""
        topic = await self._client.topic()
        of_topic: dict[str, str] | None = None
        found = []
        for node in self._brokers():
            try:
                of_topic = of_topic or await self._settings(_TOPIC, self._address.topic, node)
                of_broker = await self._settings(_BROKER, str(node), node)
            except LogUnreachable:
                found.append(Finding(f"broker {node}", "no answer", "it is down, or cannot be reached from here"))
            else:
                found += _about_broker(node, of_broker)
        found += _about_copies(topic, of_topic or {}) + _about_settings(of_topic or {})
        return sorted(found, key=lambda finding: not finding.endangers)

    async def _settings(self, kind: int, name: str, node: int) -> dict[str, str]:
        with told_to_a_person(self._address):
            answer = await self._client.client.send(node, DescribeConfigsRequest([(kind, name, None)]))
            ((error, message, _, _, entries),) = answer.resources
            if error:
                raise errors.for_code(error)(message)
        return {entry[0]: entry[1] or "" for entry in entries}


def settings_of(*, copies: int, retention_ms: int) -> dict[str, str]:
    """What a topic is made with. Kafka stamps the records, for it deletes by stamps, and other producers may set old ones."""
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(retention_ms),
        "retention.bytes": "-1",
        "min.insync.replicas": str(max(1, min(2, copies - 1))),
        "unclean.leader.election.enable": "false",
        "max.message.bytes": str(LARGEST_BATCH),
        "message.timestamp.type": "LogAppendTime",
    }


def _about_broker(node: int, settings: Mapping[str, str]) -> list[Finding]:
    if settings.get("auto.create.topics.enable") != "true":
        return []
    told = "a topic deleted by mistake comes back empty, with other settings, as soon as anybody asks for it"
    return [Finding(f"auto.create.topics.enable of broker {node}", "true", told)]


def _about_copies(topic: Topic, settings: Mapping[str, str]) -> list[Finding]:
    copies, least = min(topic.replicas.values()), int(settings.get("min.insync.replicas", "1"))
    found = [Finding("partitions", str(len(topic.leaders)), "what workers can share", endangers=False)]
    if copies < 3:
        told = (
            "the loss of one broker's disk loses events" if copies < 2 else "while one broker is down, one disk has all"
        )
        found.append(Finding("replication.factor", str(copies), f"{told}; 3 is right beyond one machine"))
    if least < 2:
        found.append(
            Finding("min.insync.replicas", str(least), "an event is acknowledged when one disk has it; 2 is right")
        )
    if least >= copies > 1:
        told = f"nothing can be published while one broker is down; {copies - 1} is right with {copies} copies"
        found.append(Finding("min.insync.replicas", str(least), told))
    for partition in sorted(topic.leaders):
        if topic.leaders[partition] < 0:
            found.append(Finding(f"leader of partition {partition}", "none", "it can be neither read nor written now"))
        elif topic.in_sync[partition] < topic.replicas[partition]:
            value = f"{topic.in_sync[partition]} of {topic.replicas[partition]}"
            found.append(Finding(f"copies in sync of partition {partition}", value, "a broker is down, or behind"))
    return found


def _about_settings(settings: Mapping[str, str]) -> list[Finding]:
    return [
        Finding(name, settings[name], *judged)
        for name, judge in _JUDGES.items()
        if name in settings and (judged := judge(settings[name], settings)) is not None
    ]


_Judged = tuple[str, bool] | None


def _cleanup(value: str, _: Mapping[str, str]) -> _Judged:
    return None if value == "delete" else ("compaction deletes all but a run's last event; delete is right", True)


def _retention(value: str, _: Mapping[str, str]) -> _Judged:
    if int(value) < 0:
        return ("all events are kept", False)
    days = int(value) / DAY
    if days < 7:
        return (f"events are deleted after {days:.3g} days; who stands still that long has lost them", True)
    return (f"events are deleted after {days:.3g} days, and can be replayed no longer", False)


def _retention_bytes(value: str, _: Mapping[str, str]) -> _Judged:
    return None if int(value) < 0 else ("events are deleted by size, read or not; -1 is right", True)


def _unclean(value: str, _: Mapping[str, str]) -> _Judged:
    return None if value != "true" else ("acknowledged events may be lost with a broker; false is right", True)


def _message_bytes(value: str, _: Mapping[str, str]) -> _Judged:
    if int(value) >= LARGEST_BATCH:
        return None
    return (f"events near 1,000,000 bytes, and large batches, are refused; {LARGEST_BATCH} is right", True)


def _timestamps(value: str, settings: Mapping[str, str]) -> _Judged:
    bounded = int(settings.get("message.timestamp.before.max.ms", FOREVER)) in range(30 * DAY)
    if value == "LogAppendTime" or bounded or int(settings.get("retention.ms", FOREVER)) < 0:
        return None
    return (
        "a producer that stamps records with old times has them deleted within minutes; LogAppendTime is right",
        True,
    )


_JUDGES: dict[str, Callable[[str, Mapping[str, str]], _Judged]] = {
    "cleanup.policy": _cleanup,
    "retention.ms": _retention,
    "retention.bytes": _retention_bytes,
    "unclean.leader.election.enable": _unclean,
    "max.message.bytes": _message_bytes,
    "message.timestamp.type": _timestamps,
}
