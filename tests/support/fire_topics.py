"""Topics for the fault tests: filled with what production sends, or being filled, and folded in quiet to know what is right.

A :class:`Filled` topic has a known end, and the store that a quiet fold of it comes to. :class:`Work` is a topic that is filled
while it is folded, piece by piece.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from production import production_without_end
from serving import Quiet, fold_quietly
from structlog.testing import capture_logs

from runfold.log.kafka import KafkaSource
from runfold.log.kafka_options import Address, KafkaOptions
from runfold.log.kafka_publish import KafkaSink
from runfold.log.port import LogSource, LogUnreachable, Message
from runfold.store.port import StoreUnreachable

PATIENCE = 180.0
"""Seconds for log and store to come back: longer than a broker may take to start."""
AT_ONCE = 1_000
"""Records of one append, and so the bound of Kafka's own batches: many of them, for they are what a fetch gives at least."""


class Scale(NamedTuple):
    """How many records are folded, and how many times something befalls those who do it."""

    records: int
    times: int


class Filled(NamedTuple):
    """A topic, the ends of its partitions, and what a quiet fold of it comes to."""

    topic: Address
    ends: Mapping[int, int]
    quiet: Quiet

    @property
    def log(self) -> str:
        return log_of(self.topic)

    @property
    def records(self) -> int:
        return sum(self.ends.values())


def log_of(topic: Address) -> str:
    return f"kafka://{topic.servers}/{topic.topic}"


@asynccontextmanager
async def sink_of(topic: Address) -> AsyncIterator[Callable[[Sequence[Message]], Awaitable[None]]]:
    """Appends what it is given; what fails is appended again, as publishers do."""
    sink = KafkaSink(topic, KafkaOptions(request_timeout_ms=3_000, delivery_timeout_ms=10_000))
    await retried(sink.start)

    async def append(written: Sequence[Message]) -> None:
        for begin in range(0, len(written), AT_ONCE):
            await retried(partial(sink.append, written[begin : begin + AT_ONCE]))

    try:
        yield append
    finally:
        await sink.close()


@asynccontextmanager
async def publishing(topic: Address, random: Random, *, records: int = 0, pause: float = 0.05) -> AsyncIterator[None]:
    """Publishes production's records as long as the block lasts, a hundred and a pause; and at least ``records`` in all."""
    over = asyncio.Event()

    async def publish() -> None:
        written, count = production_without_end(random), 0
        async with sink_of(topic) as append:
            while not over.is_set():
                await append(list(islice(written, 100)))
                count += 100
                await asyncio.sleep(pause)
            await append(list(islice(written, max(0, records - count))))

    task = asyncio.create_task(publish())
    try:
        yield
    finally:
        over.set()
        await task


class Work:
    """A topic that is filled piece by piece, two for each thing that befalls those who fold it.

    So there is work left each time, however fast they are, and however long one of them stands still while others go on.
    """

    def __init__(self, topic: Address, random: Random, scale: Scale) -> None:
        self.log, self._topic = log_of(topic), topic
        self._written = production_without_end(random)
        self._size, self._left = scale.records // scale.times // 2, scale.times
        self._ready: list[list[Message]] = []
        self._appending: asyncio.Task[None] | None = None
        self._end = 0

    async def begin_piece(self) -> range | None:
        """Begin to append the next piece, and return where it lies, counted over all partitions; None after the last."""
        await self._appended()
        if not self._ready:
            if not self._left:
                return None
            self._left -= 1
            # Both at once: while events are made this process does nothing else, and the workers would be done meanwhile.
            self._ready = [list(islice(self._written, self._size)) for _ in range(2)]
        self._appending = asyncio.create_task(self._append(self._ready.pop(0)))
        begin, self._end = self._end, self._end + self._size
        return range(begin, self._end)

    async def add(self, records: int) -> None:
        """That many records more, all of them in the topic when it returns."""
        await self._appended()
        await self._append(list(islice(self._written, records)))
        self._end += records

    async def filled(self) -> Filled:
        """The topic once every piece is in it."""
        await self._appended()
        assert not self._left and not self._ready, "pieces were left"
        return await looked_at(self._topic)

    async def close(self) -> None:
        """Append no more."""
        if self._appending is not None:
            self._appending.cancel()
            await asyncio.gather(self._appending, return_exceptions=True)

    async def _append(self, part: Sequence[Message]) -> None:
        async with sink_of(self._topic) as append:
            await append(part)

    async def _appended(self) -> None:
        if self._appending is not None:
            await self._appending


async def retried(ask: Callable[[], Awaitable[Any]]) -> Any:
    """What it gives once log and store can be reached."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await ask()
            except (LogUnreachable, StoreUnreachable):
                await asyncio.sleep(0.1)


async def looked_at(topic: Address) -> Filled:
    """What a topic holds now, folded in quiet."""
    return Filled(topic, await ends_of(topic), await folded_in_quiet(KafkaSource(topic, KafkaOptions())))


async def ends_of(topic: Address) -> dict[int, int]:
    """The offset behind the last record of each partition."""
    source = KafkaSource(topic, KafkaOptions())
    await source.start()
    ranges = await source.ranges(range(await source.partitions()))
    await source.close()
    return {which: held.end for which, held in ranges.items()}


async def folded_in_quiet(source: LogSource) -> Quiet:
    """What comes of all that a source gives, with nothing in the way."""
    with tempfile.TemporaryDirectory() as folder, capture_logs():
        return await fold_quietly(Path(folder), source=source)
