"""What an archive takes of a log's bytes, and what reading it costs beside reading Kafka, in the same run.

    .venv/bin/python tests/bench/bench_archive.py [--events 200000]

Traffic of 5,000 open runs is written to a topic of eight partitions, archived, and read from both: untouched, and folded
into a shadow store, which is what a rebuild does. Events a second are wall time of this process, with the broker on the same
machine; the CPU time is this process's alone.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from random import Random

from bench_kafka import OPTIONS, PARTITIONS, append_all, measured, new_topic

from runfold.demo.traffic import interleaved
from runfold.fold.rules import DEFAULT_RULES
from runfold.log.archive import ArchiveSource
from runfold.log.archive_folder import ArchiveFolder
from runfold.log.archive_manifest import Limits
from runfold.log.archive_writer import ArchiveWriter
from runfold.log.kafka import KafkaSource
from runfold.log.port import LogSource, Message
from runfold.replay.archiving import archive
from runfold.replay.run_range import bind, own_identity
from runfold.replay.shadow import Shadow
from runfold.store.sqlite import SqliteStore
from runfold_schemas import encode
from runfold_schemas.codec import decode_lean

sys.path.insert(0, str(Path(__file__).parents[2] / "deploy" / "kafka"))


async def archive_all(source: LogSource, folder: Path) -> None:
    writer = ArchiveWriter(folder, Limits())
    with writer.lock():
        async for _ in archive(source, writer):
            pass


async def read_all(source: LogSource, count: int) -> None:
    for which, held in (await source.ranges(range(PARTITIONS))).items():
        async for records in source.read(which, begin=held.begin, end=held.end):
            count -= len(records)
    assert count == 0


async def fold_all(source: LogSource, folder: Path) -> None:
    """As verify and rebuild do it."""
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        store = SqliteStore(Path(beside) / "shadow.db")
        await store.open()
        await bind(store, await own_identity(source, DEFAULT_RULES))
        shadow = Shadow(source, store, rules=DEFAULT_RULES, decode=decode_lean, set_aside={})
        ranges = await source.ranges(range(PARTITIONS))
        await shadow.begin({which: held.begin for which, held in ranges.items()})
        await shadow.advance({which: held.end for which, held in ranges.items()})
        await store.close()


async def history_like(source: LogSource, key: bytes) -> None:
    """One run's records, searched for in the whole of a partition: an archive is worst at what nobody asks of it."""
    begun, found = time.perf_counter(), 0
    for which, held in (await source.ranges(range(PARTITIONS))).items():
        async for records in source.read(which, begin=held.begin, end=held.end, key=key):
            found += len(records)
    print(
        f"{'one key in all partitions, ' + type(source).__name__:<48} {time.perf_counter() - begun:.2f} s, {found} records"
    )


async def bench(servers: str, count: int, folder: Path) -> None:
    events = list(islice(interleaved(5_000, Random(7)), count))
    messages = [Message(event.run_id.encode(), encode(event)) for event in events]
    topic = await new_topic(servers)
    await append_all(topic, messages)
    del events
    kept = messages[count // 2].key
    del messages
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 20)  # as the commands do it
    kafka, archived = KafkaSource(topic, OPTIONS), ArchiveSource(folder / "archive")
    await kafka.start()
    await measured("archiving a topic", count, lambda: archive_all(kafka, folder / "archive"))
    await archived.start()
    segments = ArchiveFolder(folder / "archive").load().segments
    size, raw = (sum(getattr(segment, name) for segment in segments) for name in ("bytes", "raw_bytes"))
    print(f"{'':<48} {size / raw:.1%} of the log's {raw / count:.0f} bytes an event")
    read = [
        await measured(f"reading it, {name}", count, lambda source=source: read_all(source, count))
        for name, source in (("Kafka", kafka), ("archive", archived)) * 2
    ]
    print(f"{'':<48} the archive is {max(read[1::2]) / max(read[0::2]):.2f} x Kafka")
    fold = [
        await measured(f"folding it into a shadow, {name}", count, lambda source=source: fold_all(source, folder))
        for name, source in (("Kafka", kafka), ("archive", archived)) * 2
    ]
    print(f"{'':<48} the archive is {max(fold[1::2]) / max(fold[0::2]):.2f} x Kafka")
    for source in (kafka, archived):
        await history_like(source, kept)
        await source.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="runfold-bench-") as folder:
        if servers := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
            asyncio.run(bench(servers, given.events, Path(folder)))
            return
        from kafka_cluster import Cluster

        with Cluster.start() as cluster:
            asyncio.run(bench(cluster.bootstrap_servers, given.events, Path(folder)))


if __name__ == "__main__":
    main()
