"""Cutting batches: records up to the bounds of a batch, and the positions that belong to exactly these records."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from runfold.fold.record import Record, bytes_of
from runfold.log.port import LogSource
from runfold.service.options import Options


class Batch(NamedTuple):
    """What one fetch gave: records by partition, the position after them, and how long it took (seconds).

    ``size`` is the number of records, ``bytes`` that of their values, ``newest`` the latest time of publishing among them,
    in Unix milliseconds (-1: unknown). They stand here because records are let go as they are folded, when the next batch is
    in memory already.
    """

    records: dict[int, list[Record]]
    positions: dict[int, int]
    seconds: float
    size: int
    bytes: int
    newest: int


async def fetch(source: LogSource, options: Options) -> Batch:
    """Records up to the bounds of a batch, waiting a little for more once there are some; empty where none came."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    wait, deadline = options.idle_wait, None
    records: dict[int, list[Record]] = {}
    count, size = 0, 0
    while count < options.batch_records and size < options.batch_bytes:
        got = await source.fetch(
            most_records=options.batch_records - count, most_bytes=options.batch_bytes - size, wait=wait
        )
        for partition, more in got.items():
            records.setdefault(partition, []).extend(more)
            count += len(more)
            size += bytes_of(more)
        deadline = deadline or loop.time() + options.batch_linger
        wait = deadline - loop.time()
        if not got or wait <= 0:
            break
    # No await between the last fetch and here: the positions are those after exactly these records.
    positions = {which: source.position(which) for which in records}
    newest = max((of[-1].timestamp for of in records.values()), default=-1)
    return Batch(records, positions, loop.time() - begun, count, size, newest)


async def dismiss(fetching: asyncio.Task[Batch]) -> None:
    """Cancel a fetch whose records are not wanted any more: they are still in the log."""
    fetching.cancel()
    await asyncio.wait((fetching,))
    if not fetching.cancelled():
        fetching.exception()  # looked at, or asyncio complains; what ails the log shows when it is read again
