"""What a worker holds in memory: as much after long idling and a long catch-up as before, and never more than its bound."""

from __future__ import annotations

import asyncio
from itertools import islice
from random import Random

import psutil
import pytest
from fire_topics import AT_ONCE, log_of, sink_of
from production import production_without_end

BOUND = 250 * 2**20
"""Bytes of resident memory, a worker."""
SETTLED = 1.1
"""By so much may the second half of a stretch exceed the first: allocators take their time to settle."""
SETTLING = 1.25
"""The same of a short stretch, which shows only what grows by hundreds of bytes an event."""
WARM = 100_000
"""Records after which a worker has had all sizes of batches, and its caches are as full as they get."""
SOAKED = [pytest.mark.soak, pytest.mark.timeout(1_800)]


class Memory:
    """The resident memory of a fleet's only worker, looked at whenever asked."""

    def __init__(self, worker):
        self._process = psutil.Process(worker.pid)
        self.seen = []

    def look(self):
        self.seen.append(self._process.memory_info().rss)

    def halves(self):
        """The most in each half."""
        middle = len(self.seen) // 2
        first, second = max(self.seen[:middle]), max(self.seen[middle:])
        print(f"{len(self.seen)} looks: at most {first / 2**20:.1f} MB, then {second / 2**20:.1f} MB")
        return first, second


@pytest.mark.parametrize("seconds", [30, pytest.param(300, marks=SOAKED)])
async def test_an_idle_topic(seconds, topic, store_url, light):
    """A worker that has nothing to do stays as it is."""
    fleet = await light(log_of(topic), store_url)
    worker = fleet.join()
    await fleet.all_serve()
    memory = Memory(worker)
    for _ in range(2 * seconds):
        await asyncio.sleep(0.5)  # idling is what is looked at
        memory.look()
    first, second = memory.halves()
    assert second <= SETTLED * first
    assert second <= BOUND
    await fleet.leave(worker)


@pytest.mark.parametrize(("records", "growth"), [(200_000, SETTLING), pytest.param(2_000_000, SETTLED, marks=SOAKED)])
async def test_a_catch_up(records, growth, make_topic, store_url, light):
    """A worker that folds a long topic, batches of the usual size, holds as much at its end as in its middle."""
    topic = make_topic(8)
    written = production_without_end(Random(records))
    async with sink_of(topic) as append:
        for _ in range(records // AT_ONCE):
            await append(list(islice(written, AT_ONCE)))
    fleet = await light(log_of(topic), store_url, batch_records=40_000)
    worker = fleet.join()
    await fleet.all_serve()
    memory = Memory(worker)

    def looked(found):
        position = sum(each.position for each in found)
        if position >= WARM:
            memory.look()
        return position >= records

    await fleet.until(looked)
    first, second = memory.halves()
    assert second <= growth * first
    assert second <= BOUND
    await fleet.leave(worker)
