"""A simulated agent platform: publishes made-up runs in real time, and a few broken events among them, as platforms do."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from msgspec import structs

from runfold.demo.traffic import lifecycle
from runfold.log.port import LogSink, Message
from runfold.log.publisher import Publisher
from runfold_schemas.codec import encode, encode_json
from runfold_schemas.events import Event, RunCompleted, RunInProgress

PACE = 0.25
"""How much shorter than real ones simulated runs are, so that most of them end while people look."""

_TICK = 0.02


def due(runs: int, seconds: float, random: Random, *, begin: int) -> Iterator[tuple[int, Event]]:
    """Events of ``runs`` runs that start within ``seconds`` of ``begin`` (ms), each with the time at which it is due."""
    heap: list[tuple[int, int, Event, Iterator[Event]]] = []
    starts = sorted(random.uniform(0, seconds * 1000) for _ in range(runs))
    for number, start in enumerate(starts):
        at = begin + int(start)
        events = lifecycle(number, at, random)
        heap.append((at, number, next(events), events))
    heapq.heapify(heap)
    while heap:
        at, number, event, events = heapq.heappop(heap)
        yield at, structs.replace(event, occurred_at=at)
        following = next(events, None)
        if following is not None:
            lasted = following.occurred_at - event.occurred_at
            heapq.heappush(heap, (at + max(1, int(lasted * PACE)), number, following, events))


async def publish_runs(
    publisher: Publisher, *, runs: int, seconds: float, random: Random, progress: Callable[[int], None]
) -> int:
    """Publish the runs as time goes by; returns how many events. ``progress`` is told of each handful."""
    count = 0
    waiting: list[Event] = []
    for at, event in due(runs, seconds, random, begin=int(time.time() * 1000)):
        while at > time.time() * 1000:
            if waiting:
                await publisher.publish_many(waiting)
                progress(len(waiting))
                count, waiting = count + len(waiting), []
            await asyncio.sleep(_TICK)
        waiting.append(event)
    if waiting:
        await publisher.publish_many(waiting)
        progress(len(waiting))
    return count + len(waiting)


async def publish_broken(sink: LogSink) -> int:
    """Append a few records such as no publisher of ours would send; returns how many."""
    now = int(time.time() * 1000)
    names: dict[str, Any] = {"run_id": "run_broken", "thread_id": "thread_broken", "id": "1"}
    key = b"run_broken"
    newer = encode_json(RunInProgress(**names, occurred_at=now)).replace(b"in_progress", b"paused")
    broken = [
        Message(key, b"\x93not an event"),
        Message(key, b'{"type":"thread.run.completed","run_id":17}'),
        Message(key, newer),
        Message(b"run_other", encode(RunCompleted(**names, occurred_at=now))),
        Message(key, encode(RunCompleted(**names, occurred_at=now // 1000))),
    ]
    await sink.append(broken)
    return len(broken)
