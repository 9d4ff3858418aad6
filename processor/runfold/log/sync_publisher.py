"""The publisher for code that does not use asyncio: Django, Flask, scripts. Threads share one; forked children open anew.

It runs an event loop on a thread of its own, started by the first call, so that an object made at import time survives
the forks of a pre-forking server. What a parent had open is never touched by a child, not even to close it: SQLite's
locks and the loop's selector would suffer in the parent.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from runfold.log.port import LogSink, Place
from runfold.log.publisher import Publisher
from runfold_schemas.events import Event

T = TypeVar("T")


class _Running:
    """A publisher, and the thread whose loop it lives on."""

    def __init__(self, make: Callable[[], Publisher]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="runfold-publisher", daemon=True)
        self._thread.start()
        try:
            self.publisher = self.call(_entered(make))
        except BaseException:
            self._stop()
            raise

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        try:
            self.call(self.publisher.close())
        finally:
            self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _entered(make: Callable[[], Publisher]) -> Publisher:
    return await make().__aenter__()


class SyncPublisher:
    """Publishes from any thread: ``with SyncPublisher(lambda: SqliteSink(path), source="shop") as publisher: ...``.

    ``open_sink`` makes a new sink, once in each process that publishes; ``options`` are those of :class:`Publisher`. Calls
    of several threads share appends.
    """

    def __init__(self, open_sink: Callable[[], LogSink], **options: Any) -> None:
        self._make = lambda: Publisher(open_sink(), **options)
        self._lock = threading.Lock()
        self._running: _Running | None = None
        _LIVING.add(self)

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def publish(self, event: Event) -> Place:
        """As :meth:`Publisher.publish`; returns once the log has the event durably."""
        running = self._open()
        return running.call(running.publisher.publish(event))

    def publish_many(self, events: Sequence[Event]) -> list[Place]:
        """As :meth:`Publisher.publish_many`."""
        running = self._open()
        return running.call(running.publisher.publish_many(events))

    def close(self) -> None:
        """Send what is queued and stop the thread; a later call opens anew. Raises as :meth:`Publisher.close`."""
        with self._lock:
            running, self._running = self._running, None
        if running is not None:
            running.close()

    def _open(self) -> _Running:
        with self._lock:
            if self._running is None:
                self._running = _Running(self._make)
            return self._running

    def abandon(self) -> None:
        """Start over in a forked child; another thread of the parent may have held the lock."""
        self._lock = threading.Lock()
        if self._running is not None:
            _ABANDONED.append(self._running)
            self._running = None


_LIVING: weakref.WeakSet[SyncPublisher] = weakref.WeakSet()
_ABANDONED: list[_Running] = []


def _after_fork() -> None:
    for publisher in list(_LIVING):
        publisher.abandon()


os.register_at_fork(after_in_child=_after_fork)
