"""Telling Kafka how far its log is read, so that its own tools can show a lag: a hint that nothing here ever reads back.

Offsets are committed under the group's name, without being a member, from a task of its own: what fails or hangs here
holds up nothing and is a warning. aiokafka's own commit is not used: it refuses all partitions where one is not assigned,
and repeats what fails without limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from aiokafka import errors
from aiokafka.client import ConnectionGroup
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest

from runfold.log.kafka_client import KafkaClient
from runfold.log.kafka_options import KafkaOptions
from runfold.telemetry import get_logger

_EVERY_SECONDS = 1.0
_TRY_SECONDS = 5.0
_LAST_TRY_SECONDS = 1.0
_GROUP = 0
_NO_GENERATION, _NO_MEMBER, _BROKERS_RETENTION = -1, "", -1


class ProgressHint:
    """Commits what it is told, about once a second while it is told anything. Made inside a running event loop."""

    def __init__(self, client: KafkaClient, topic: str, options: KafkaOptions) -> None:
        self._client, self._topic, self._group = client, topic, options.group_id
        self._news: dict[int, int] = {}
        self._wake = asyncio.Event()
        self._failure = self._warned = ""
        self._task = asyncio.create_task(self._commit_now_and_then(), name="runfold-kafka-progress")

    def tell(self, positions: Mapping[int, int]) -> None:
        """These positions are committed in the store."""
        self._news.update(positions)
        self._wake.set()

    def keep_only(self, partitions: Iterable[int]) -> None:
        """Others own the rest now: what was not told of them yet is not for this worker to tell."""
        kept = set(partitions)
        self._news = {which: position for which, position in self._news.items() if which in kept}

    async def close(self) -> None:
        """Commit what is left, within a second, and end."""
        self._task.cancel()
        await asyncio.wait((self._task,))
        await self._try_to_commit(_LAST_TRY_SECONDS)

    async def _commit_now_and_then(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._try_to_commit(_TRY_SECONDS)
            await asyncio.sleep(_EVERY_SECONDS)

    async def _try_to_commit(self, seconds: float) -> None:
        told = dict(self._news)
        if not told:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._commit(told)
        except (errors.KafkaError, OSError, TimeoutError) as error:
            self._wake.set()  # again, with what is told meanwhile
            self._warn(type(error).__name__)
        else:
            self._failure = self._warned = ""
            self._news = {which: position for which, position in self._news.items() if told.get(which) != position}

    def _warn(self, reason: str) -> None:
        """Tell a failure once, and only when it comes a second time: a new cluster has no coordinator for a moment."""
        if reason == self._failure != self._warned:
            self._warned = reason
            get_logger().warning("progress_not_told", group=self._group, reason=reason)
        self._failure = reason

    async def _commit(self, positions: Mapping[int, int]) -> None:
        client = self._client.client
        found = await client.send(client.get_random_node(), FindCoordinatorRequest(self._group, _GROUP))
        if found.error_code:
            raise errors.for_code(found.error_code)
        partitions = [(partition, position, "") for partition, position in sorted(positions.items())]
        request = OffsetCommitRequest(
            self._group, _NO_GENERATION, _NO_MEMBER, _BROKERS_RETENTION, [(self._topic, partitions)]
        )
        answer = await client.send(found.coordinator_id, request, group=ConnectionGroup.COORDINATION)
        for _, told in answer.topics:
            for _, error in told:
                if error:
                    raise errors.for_code(error)
