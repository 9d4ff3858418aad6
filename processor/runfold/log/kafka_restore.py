"""Writing a topic from an archive: with the old timestamps, which is exactly what retention empties a topic by.

So the topic has to keep its records without end, or for longer than the oldest of them is old; one that is not there is made
so. A topic that stamps records itself is taken, for its records stay, and people are told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from runfold.fold.record import Record
from runfold.log.clock import wall_clock
from runfold.log.kafka_options import Address, KafkaOptions
from runfold.log.kafka_publish import KafkaSink
from runfold.log.kafka_topic import DAY, FOREVER, KafkaTopic
from runfold.log.port import LogError


class KafkaRestorer:
    """Makes a topic of another log's records; see :class:`runfold.log.port.LogRestorer`. ``clock``: Unix milliseconds."""

    keeps_offsets = False

    def __init__(self, address: Address, options: KafkaOptions, *, clock: Callable[[], int] = wall_clock) -> None:
        self._address, self._options, self._clock = address, options, clock
        self._sink = KafkaSink(address, options)

    async def prepare(self, *, partitions: int, oldest: int) -> list[str]:
        """As the port says. A topic that is made here keeps all, and the timestamps that it is given."""
        async with KafkaTopic(self._address, self._options) as topic:
            found = await topic.settings()
            if found is None:
                await topic.create(partitions=partitions, replicas=None, retention_ms=FOREVER, stamps="CreateTime")
                return [f"the topic {self._address.topic} was made; it keeps all records, with the timestamps they had"]
        count, settings = found
        if count != partitions:
            raise LogError(
                f"the topic {self._address.topic} has {count} partitions, and the archive has {partitions}: what is published "
                "later would go to other partitions than the runs it belongs to; name a topic that is not there, or one like it"
            )
        return _check_keeps(self._address.topic, settings, age=self._clock() - oldest)

    async def start(self) -> None:
        await self._sink.start()

    async def close(self) -> None:
        await self._sink.close()

    async def write(self, partition: int, records: Sequence[Record]) -> None:
        await self._sink.append_stamped(partition, records)


def _check_keeps(topic: str, settings: Mapping[str, str], *, age: int) -> list[str]:
    """What to know of a topic that will keep records ``age`` milliseconds old. Raises LogError of one that will not."""
    if settings.get("cleanup.policy", "delete") != "delete":
        raise LogError(f"the topic {topic} is compacted (cleanup.policy): all but a run's last event would be deleted")
    retention = int(settings.get("retention.ms", FOREVER))
    remarks = [] if retention < 0 else [f"the topic {topic} deletes records after {_days(retention)} (retention.ms)"]
    if settings.get("message.timestamp.type") == "LogAppendTime":
        told = "stamps records itself: they bear the time of now, by which what is asked by time is answered"
        return [f"the topic {topic} {told} (message.timestamp.type)", *remarks]
    if 0 <= retention <= age:
        raise LogError(
            f"the topic {topic} deletes records after {_days(retention)} (retention.ms), and the archive's oldest is "
            f"{_days(age)} old: it would be gone within minutes. Set retention.ms to -1, or name a new topic: "
            "it is made fit"
        )
    taken = int(settings.get("message.timestamp.before.max.ms", age))
    if taken < age:
        raise LogError(
            f"the topic {topic} takes no records older than {_days(taken)} (message.timestamp.before.max.ms), and the "
            f"archive's oldest is {_days(age)} old: raise that, or name a new topic: it is made fit"
        )
    return remarks


def _days(milliseconds: int) -> str:
    return f"{milliseconds / DAY:.3g} days"
