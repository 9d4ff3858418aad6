"""How applications publish events: checked, numbered, grouped into few appends, and answered when the log has them.

The way of an event: it waits for room; is completed, checked and queued without giving way to others in between, so that
the order of numbers is the order in the log; the sender takes all that is queued in one append, and then answers. Events
stay queued until the log has them. An append that fails leaves them at the head of the queue, with their ids and numbers:
they are sent again before anything else is, because they may or may not be in the log already. Readers drop what is there
twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from msgspec import Struct

from runfold.log.checking import MOST_BYTES, InvalidEvent, check_origin, checked_bytes
from runfold.log.clock import wall_clock
from runfold.log.numbering import Numbering
from runfold.log.port import LogSink, LogUnreachable, Message, Place
from runfold_schemas.events import Event

__all__ = ["InvalidEvent", "Publisher"]


class _Sending(Struct, eq=False):
    """One call's messages and the answer it waits for."""

    messages: Sequence[Message]
    size: int
    answer: asyncio.Future[list[Place]]


class Publisher:
    """Publishes events into a log: ``async with Publisher(sink, source="checkout") as publisher: ...``.

    It starts and closes the sink. ``source`` (1 to 40 characters) names who publishes. At most ``most_events`` and
    ``most_bytes`` wait for the log, and one call's events on top; calls wait for room. ``most_runs`` bounds the memory for
    numbers. An event of more than ``largest_value`` bytes is invalid: the readers' RUNFOLD_LARGEST_VALUE. ``clock`` gives
    Unix milliseconds. Belongs to one event loop, and to the process that opened it.
    """

    def __init__(
        self,
        sink: LogSink,
        *,
        source: str = "runfold",
        most_events: int = 50_000,
        most_bytes: int = 32_000_000,
        most_runs: int = 100_000,
        largest_value: int = MOST_BYTES,
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        self._sink, self._clock = sink, clock
        self._numbering = Numbering(source, most_runs=most_runs)
        self._most_events, self._most_bytes = most_events, most_bytes
        self._largest_value = largest_value
        self._queue: deque[_Sending] = deque()
        self._events = self._bytes = 0
        self._turn = asyncio.Lock()  # first come, first numbered
        self._work = asyncio.Event()
        self._settled = asyncio.Condition()
        self._failure: Exception | None = None
        self._attempts = 0
        self._closing = False
        self._sender: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._sink.start()
        except BaseException:
            await self._sink.close()
            raise
        self._sender = asyncio.create_task(self._send_while_open(), name="runfold-publisher")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Send what is queued, then close the sink. Raises LogUnreachable where some events' fate remains unknown."""
        if self._sender is None:
            return
        self._closing = True
        self._work.set()
        try:
            await self._sender
        finally:
            self._sender = None
            await self._sink.close()
        if self._queue:
            raise LogUnreachable(
                f"RUNFOLD_LOG: {self._events} events whose publishing failed could not be sent again before closing; "
                "publish what is not in the log once more"
            ) from self._failure

    async def publish(self, event: Event) -> Place:
        """Publish one event; returns where it stands once the log has it durably.

        Raises InvalidEvent (nothing was sent), or LogError: then its fate is unknown, and it is sent again, with the same
        id and number, before the next event. Cancelling does not recall an event that is queued.
        """
        (place,) = await self.publish_many((event,))
        return place

    async def publish_many(self, events: Sequence[Event]) -> list[Place]:
        """Publish events in order, in one append; for bulk hand over some thousands at a time.

        Raises like :meth:`publish`; where one event is invalid none is sent.
        """
        if not events:
            return []
        async with self._turn:
            await self._room()
            sending = self._queued(self._prepare(events))
        return await sending.answer

    async def publish_messages(self, messages: Sequence[Message]) -> list[Place]:
        """Publish records that are complete and checked already: as they are, in order, in one append.

        They are not numbered. Raises LogError as :meth:`publish` does.
        """
        if not messages:
            return []
        async with self._turn:
            await self._room()
            sending = self._queued(messages)
        return await sending.answer

    def has_room(self) -> bool:
        """Whether a call would be queued at once, rather than wait for the log."""
        return self._events < self._most_events and self._bytes < self._most_bytes

    def _queued(self, messages: Sequence[Message]) -> _Sending:
        size = sum(len(message.value) for message in messages)
        sending = _Sending(messages, size, asyncio.get_running_loop().create_future())
        self._queue.append(sending)
        self._events += len(messages)
        self._bytes += size
        self._work.set()
        return sending

    async def _room(self) -> None:
        """Wait until there is room; not, however, for a log that has failed once more meanwhile."""
        while self._is_open() and not self.has_room():
            before = self._attempts
            self._work.set()
            async with self._settled:
                while self._attempts == before and self._is_open():
                    await self._settled.wait()
            if self._failure is not None:
                raise LogUnreachable(f"{self._failure}; no room for more events meanwhile") from self._failure
        if not self._is_open():
            raise RuntimeError("this publisher is not open")

    def _is_open(self) -> bool:
        return self._sender is not None and not self._closing

    def _prepare(self, events: Sequence[Event]) -> list[Message]:
        now = self._clock()
        try:
            messages = [self._message(event, now) for event in events]
        except BaseException:
            self._numbering.take_back()
            raise
        self._numbering.keep()
        return messages

    def _message(self, event: Event, now: int) -> Message:
        check_origin(event)
        completed = self._numbering.complete(event, now)
        value = checked_bytes(completed, now, largest=self._largest_value)
        return Message(completed.run_id.encode(), value)

    async def _send_while_open(self) -> None:
        while not (self._closing and not self._queue):
            await self._work.wait()
            self._work.clear()
            while self._queue:
                await self._send()
                if self._failure is not None:
                    break
            if self._closing:
                return

    async def _send(self) -> None:
        """Append all that is queued; on failure it stays there and those who wait are told."""
        sent = list(self._queue)
        try:
            places = await self._sink.append([message for sending in sent for message in sending.messages])
        except Exception as error:  # noqa: BLE001 - every caller gets it; the sender has to live on for the next
            self._failure = error
            for sending in sent:
                if not sending.answer.done():
                    sending.answer.set_exception(error)
        else:
            self._failure = None
            self._answer(sent, places)
        async with self._settled:
            self._attempts += 1
            self._settled.notify_all()

    def _answer(self, sent: Sequence[_Sending], places: Sequence[Place]) -> None:
        begin = 0
        for sending in sent:
            self._queue.popleft()
            self._events -= len(sending.messages)
            self._bytes -= sending.size
            end = begin + len(sending.messages)
            if not sending.answer.done():
                sending.answer.set_result(list(places[begin:end]))
            begin = end
