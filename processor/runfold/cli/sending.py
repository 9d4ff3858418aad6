"""Sending many events: a piece at a time, at a given pace, and knowing what the log has for certain."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from runfold.log.checking import InvalidEvent
from runfold.log.sync_publisher import SyncPublisher
from runfold_schemas import Event

T = TypeVar("T")

PIECE = 5_000
"""Events of one append: it is answered when the log has them durably, which costs the same for one as for all."""

_PIECES_A_SECOND = 20


class Sender:
    """Sends events and counts those that the log has. ``rate`` is in events a second; None is as fast as the log takes.

    ``clock`` and ``sleep`` are in seconds. ``sent`` counts events; ``in_doubt`` those handed over that the log has not
    answered for; ``ends`` has per partition the offset behind the last.
    """

    def __init__(
        self,
        publisher: SyncPublisher,
        *,
        rate: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._publisher, self._rate = publisher, rate
        self._clock, self._sleep = clock, sleep
        self._began = clock()
        self.sent = self.in_doubt = 0
        self.ends: dict[int, int] = {}

    def pieces(self, items: Sequence[T]) -> Iterator[Sequence[T]]:
        """Cut what is to be sent so that the pace is even."""
        size = PIECE if self._rate is None else min(PIECE, max(1, int(self._rate / _PIECES_A_SECOND)))
        for begin in range(0, len(items), size):
            yield items[begin : begin + size]

    def send(self, events: Sequence[Event]) -> None:
        """Send one piece when its time has come; returns when the log has it. Raises as the publisher does."""
        if self._rate is not None:
            self._sleep(max(0.0, self._began + self.sent / self._rate - self._clock()))
        self.in_doubt = len(events)
        try:
            places = self._publisher.publish_many(events)
        except InvalidEvent:
            self.in_doubt = 0  # nothing of the call was sent
            raise
        self.in_doubt = 0
        for place in places:
            self.ends[place.partition] = max(self.ends.get(place.partition, 0), place.offset + 1)
        self.sent += len(events)
