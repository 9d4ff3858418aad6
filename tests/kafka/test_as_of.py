"""As-of on Kafka, by its own index of timestamps, over a store in PostgreSQL: as they are used beyond one machine."""

from __future__ import annotations

import asyncio
from itertools import islice
from random import Random

import pytest
from serving import settings_of

from runfold import wiring
from runfold.demo.traffic import interleaved
from runfold.fold.batch import PartitionFold
from runfold.fold.changes import Changes
from runfold.fold.projection import project
from runfold.fold.state import decode_state
from runfold.log.port import Message
from runfold.replay.as_of import run_as_of
from runfold.replay.cut import cut_at_time
from runfold.replay.usage_as_of import usage_as_of
from runfold.service.serve import serve
from runfold_schemas import encode

pytestmark = pytest.mark.usefixtures("collector")


async def test_runs_and_usage_as_of_an_instant(topic, opened, postgres_url, tmp_path):
    """Between two publications every run and all usage are what a fold of the first one says."""
    log = f"kafka://{topic.servers}/{topic.topic}"
    settings = settings_of(tmp_path, log=log, store=postgres_url)
    sink, source = await opened.sink(topic), await opened.source(topic)
    events = interleaved(20, Random(3))
    messages = [Message(event.run_id.encode(), encode(event)) for event in islice(events, 400)]
    await sink.append(messages[:250])
    before = await source.ranges(range(4))
    await asyncio.sleep(0.05)
    await sink.append(messages[250:])
    await serve(
        settings, wiring.open_source(settings), wiring.open_store(settings), until_end=True, stop=asyncio.Event()
    )
    firsts = [await source.record_at(which, held.end) for which, held in before.items()]
    instant = min(record.timestamp for record in firsts if record is not None)
    cut = await cut_at_time(source, instant)
    assert cut == {which: held.end for which, held in before.items()}
    changes = Changes()
    for which, end in cut.items():
        records = [record async for some in source.read(which, begin=0, end=end) for record in some]
        PartitionFold(which).fold(records, next_position=end, expected=0, changes=changes)
    store = wiring.open_store(settings)
    await store.open(write=False)
    try:
        for row in changes.runs:
            parts = await run_as_of(source, store, settings.rules, run_id=row.run_id, cut=cut)
            (part,) = [part for part in parts if part.state is not None]
            assert project(part.state) == project(decode_state(row.body))
        for from_log in (False, True):
            found = await usage_as_of(source, store, settings.rules, cut=cut, workspace=tmp_path, from_log=from_log)
            assert {row.bucket: list(row.sums) for row in found.rows} == changes.usage
    finally:
        await store.close()
