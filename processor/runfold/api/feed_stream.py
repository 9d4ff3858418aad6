"""One reader of the feed: it is given windows as fast as it takes them, and holds no more than one.

One that takes nothing for too long is let go, as is everybody after a while: whoever comes back goes on where it ended, past
the door, which by then may not know its key any more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from litestar.types import Receive, Scope, Send
from msgspec import Struct

from runfold.api import vector
from runfold.api.api import Api
from runfold.api.vector import Vector
from runfold.api.windows import Change, Window
from runfold.log.port import LogError
from runfold.store.port import PartitionStatus, StoreError
from runfold.telemetry import get_logger
from runfold_schemas.run import RunStatus

HEARTBEAT: Final = 10.0
"""Seconds without an event after which a reader is told where it stands."""

RETRY: Final = 1_000
"""Milliseconds after which a reader is asked to come back."""

_CHUNK: Final = 64_000
_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # proxies that gather answers would gather for ever
]


class Wanted(Struct, frozen=True, kw_only=True):
    """Which runs a reader is told of; None means any. A run has to be of all the ``projects``: that of the key among them."""

    run_id: str | None
    thread_id: str | None
    projects: frozenset[str]
    status: int | None

    def takes(self, change: Change) -> bool:
        state = change.state
        return (
            self.projects <= {state.dimensions.project_id}
            and self.run_id in (None, state.run_id)
            and self.thread_id in (None, state.thread_id)
            and self.status in (None, state.status)
        )


class Stream:
    """The answer, as an ASGI application. ``ends``: where the store has got to by now; without it, when somebody leaves."""

    def __init__(self, api: Api, wanted: Wanted, begin: Vector, *, ends: bool) -> None:
        self._api, self._wanted, self._begin, self._ends = api, wanted, begin, ends

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        telling = asyncio.create_task(self._tell(send))
        leaving = [asyncio.create_task(_left(receive)), asyncio.create_task(self._api.stopping.wait())]
        longest = self._api.settings.api.stream
        try:
            await asyncio.wait([telling, *leaving], timeout=longest, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (telling, *leaving):
                task.cancel()
            await asyncio.wait([telling, *leaving])
        if telling.cancelled() or telling.result():
            with suppress(TimeoutError):  # the end waits for a reader no longer than an event does
                async with asyncio.timeout(self._api.settings.api.slow):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell(self, send: Send) -> bool:
        """Tell until told to leave off. False where the reader takes nothing, not even an end; then its connection breaks.

        Log or store out of reach is an end like any other: the reader comes back.
        """
        try:
            async for chunk in self._chunks():
                async with asyncio.timeout(self._api.settings.api.slow):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except TimeoutError:
            get_logger().info("feed_reader_dropped", reason="it took nothing", seconds=self._api.settings.api.slow)
            return False
        except (LogError, StoreError) as error:
            get_logger().warning("feed_ended", reason=str(error))
        return True

    async def _chunks(self) -> AsyncIterator[bytes]:
        told_at = time.monotonic()
        yield b"retry: %d\n%s" % (RETRY, _here(self._begin))
        async for window in self._windows():
            chunk = bytearray()
            for change in filter(self._wanted.takes, window.changes):
                chunk += _event(change, _standing(window, change))
                if len(chunk) >= _CHUNK:
                    yield bytes(chunk)
                    chunk.clear()
            if chunk or window.begin is window.end or time.monotonic() - told_at >= HEARTBEAT:
                yield bytes(chunk) + _here(window.end)
                told_at = time.monotonic()

    async def _windows(self) -> AsyncIterator[Window]:
        """Windows from the begin on, and an empty one where nothing happened for a while, or at the end."""
        at = self._begin
        goal = await self._api.positions.look() if self._ends else None
        while True:
            found = await self._beyond(at) if goal is None else goal
            at = {each.partition: each.first_offset for each in found} | dict(at)
            if _beyond(at, found):
                window = await self._api.windows.behind(at, {each.partition: each.position for each in found})
                at = window.end
                yield window
                continue
            yield Window(at, at, ())
            if goal is not None:
                return

    async def _beyond(self, at: Vector) -> list[PartitionStatus]:
        """The partitions, once one has gone beyond ``at``; none where nothing happens for HEARTBEAT seconds."""
        found = await self._api.positions.until(lambda found: _beyond(at, found), seconds=HEARTBEAT)
        return found or []


def _beyond(at: Vector, found: list[PartitionStatus]) -> bool:
    return any(each.position > at.get(each.partition, each.first_offset) for each in found)


def _standing(window: Window, change: Change) -> Vector:
    """Where a reader stands behind a change: partitions are told one after the other."""
    done = {partition: end for partition, end in window.end.items() if partition < change.partition}
    return {**window.begin, **done, change.partition: change.offset + 1}


def _event(change: Change, standing: Vector) -> bytes:
    name = RunStatus(change.state.status).wire
    return b"id: %s\nevent: thread.run.%s\ndata: %s\n\n" % (vector.shown(standing).encode(), name.encode(), change.body)


def _here(standing: Vector) -> bytes:
    """Nothing but where the reader stands: clients remember it, and tell nobody."""
    return b"id: %s\n: here\n\n" % vector.shown(standing).encode()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
