"""What a worker holds in memory: as much after long idling and a long catch-up as before, and never more than its bound."""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import islice
from random import Random

import psutil
import pytest
from fire_topics import AT_ONCE, log_of, sink_of
from production import production_without_end

from runfold.store.sqlite_connection import WRITER_CACHE_KB

BOUND = 250 * 2**20
"""Bytes of resident memory, a worker."""
SETTLED = 1.1
"""By so much may the second half of a stretch exceed the first: allocators take their time to settle."""
KEPT = 200
"""Bytes an event that may stay: fewer than its record has, or its share of a run, so that either kept by mistake shows."""
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

    async def idling(self):
        """The least in a second in which there is nothing to do."""
        begin = len(self.seen)
        for _ in range(10):
            await asyncio.sleep(0.1)  # what was in hand is let go of meanwhile
            self.look()
        return min(self.seen[begin:])

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


async def test_what_is_folded_is_let_go(make_topic, store_url, light):
    """Once it is warm, a worker that has folded as much again holds nothing more of it but what its store may cache."""
    topic = make_topic(8)
    written = production_without_end(Random(WARM))
    fleet = await light(log_of(topic), store_url, batch_records=5_000)
    memory = Memory(fleet.join())
    afterwards = []
    for records in (WARM, 2 * WARM):
        await append(topic, islice(written, WARM))
        await fleet.until(partial(looked, memory, records))
        afterwards.append(await memory.idling())
    print(f"after each: {', '.join(f'{each / 2**20:.1f} MB' for each in afterwards)}")
    cache = 1024 * WRITER_CACHE_KB if fleet.embedded else 0
    assert afterwards[1] - afterwards[0] <= KEPT * WARM + cache
    assert max(memory.seen) <= BOUND


@pytest.mark.soak
@pytest.mark.timeout(1_800)
async def test_a_catch_up(make_topic, store_url, light):
    """A worker that folds a long topic, batches of the usual size, holds as much at its end as in its middle."""
    topic, records = make_topic(8), 2_000_000
    await append(topic, islice(production_without_end(Random(records)), records))
    fleet = await light(log_of(topic), store_url, batch_records=40_000)
    worker = fleet.join()
    await fleet.all_serve()
    await fleet.reached(WARM)
    memory = Memory(worker)
    await fleet.until(partial(looked, memory, records))
    first, second = memory.halves()
    assert second <= SETTLED * first
    assert second <= BOUND
    await fleet.leave(worker)


async def append(topic, written):
    async with sink_of(topic) as given:
        while some := list(islice(written, AT_ONCE)):
            await given(some)


def looked(memory, records, found):
    """Whether so many records are folded; looks at the memory of who does it."""
    memory.look()
    return sum(each.position for each in found) >= records
