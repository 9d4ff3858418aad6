"""The consumer: reads the partitions it owns, folds batches and commits them, each in the store's one transaction.

A batch goes this way: (1) fetched, while the one before commits; (2) its runs loaded from the store; (3) folded, on a
thread of its own; (4) applied: rows, usage, letters and positions together, or not at all; (5) settled. When somebody
else has written meanwhile, step 4 refuses: everything in hand is dropped, the partitions are taken again, and reading goes
on from where the store stands. Nothing else is ever a commit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

from runfold.fold.batch import PartitionFold
from runfold.fold.changes import Changes
from runfold.fold.record import Record
from runfold.fold.rules import Rules
from runfold.log.port import LogSource
from runfold.service.options import Options
from runfold.service.ownership import Ownership
from runfold.store.port import StalePosition, Store, StoreUnreachable
from runfold.telemetry import Logger


class Batch(NamedTuple):
    """What one fetch gave: records by partition, the position after them, and how long it took (seconds)."""

    records: dict[int, list[Record]]
    positions: dict[int, int]
    seconds: float


class Consumer:
    """Folds the partitions of one log into one store until told to stop. Owns neither: they come opened.

    ``run`` returns after ``stop`` is set and what was in hand is committed, or, with ``ends``, when every partition has
    been folded up to the given offset.
    """

    def __init__(
        self, source: LogSource, store: Store, ownership: Ownership, *, rules: Rules, options: Options, logger: Logger
    ) -> None:
        self._source, self._store, self._ownership = source, store, ownership
        self._rules, self._options, self._logger = rules, options, logger
        self._folds: dict[int, PartitionFold] = {}
        self._positions: dict[int, int] = {}
        self._failing_since: float | None = None
        self._thread = ThreadPoolExecutor(1, "runfold-fold")

    async def run(self, stop: asyncio.Event, *, ends: Mapping[int, int] | None = None) -> None:
        """Fold until stopped. Raises what the log and the store raise where patience does not help."""
        await self._take_partitions()
        fetching: asyncio.Task[Batch] | None = None
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set() and not self._reached(ends):
                fetching = fetching or asyncio.create_task(self._fetch())
                await asyncio.wait((fetching, stopping), return_when=asyncio.FIRST_COMPLETED)
                if not fetching.done():
                    break
                batch, fetching = fetching.result(), None
                if batch.records:
                    fetching = asyncio.create_task(self._fetch())
                    if not await self._fold_and_commit(batch):
                        await _dismiss(fetching)
                        fetching = None
                        await self._take_partitions()
        finally:
            stopping.cancel()
            if fetching is not None:
                await _dismiss(fetching)
            self._thread.shutdown(wait=False)

    def _reached(self, ends: Mapping[int, int] | None) -> bool:
        return ends is not None and all(self._positions.get(which, end) >= end for which, end in ends.items())

    async def _take_partitions(self) -> None:
        """Take the partitions (again) and read on from where the store stands: no position in hand counts any more."""
        leases = await self._ownership.claim()
        set_aside: dict[int, dict[int, str]] = {}
        for note in await self._store.notes():
            if note.kind == "set_aside":
                set_aside.setdefault(note.partition, {})[note.offset] = note.reason
        self._positions = {partition: lease.position for partition, lease in leases.items()}
        self._folds = {
            partition: PartitionFold(
                partition,
                rules=self._rules,
                set_aside=set_aside.get(partition),
                most_runs=self._options.open_runs,
            )
            for partition in leases
        }
        self._source.assign(self._positions)

    async def _fetch(self) -> Batch:
        """Records up to the bounds of a batch, waiting a little for more once there are some."""
        options, source, loop = self._options, self._source, asyncio.get_running_loop()
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
                size += sum(len(record.value or b"") for record in more)
            deadline = deadline or loop.time() + options.batch_linger
            wait = deadline - loop.time()
            if not got or wait <= 0:
                break
        # No await between the last fetch and here: the positions are those after exactly these records.
        return Batch(records, {which: source.position(which) for which in records}, loop.time() - begun)

    async def _fold_and_commit(self, batch: Batch) -> bool:
        """Steps 2 to 5. False when the store has moved, or cannot be written for now: take the partitions again."""
        loop = asyncio.get_running_loop()
        times = [loop.time()]
        try:
            for partition, records in batch.records.items():
                await self._load(partition, records)
            times.append(loop.time())
            changes = await loop.run_in_executor(self._thread, self._fold, batch)
            times.append(loop.time())
            handles = await self._store.apply(changes, self._ownership.leases)
        except StalePosition as error:
            self._logger.warning("commit_refused", reason=str(error))
            return False
        except StoreUnreachable as error:
            await self._bear_with(error)
            return False
        times.append(loop.time())
        self._failing_since = None
        for partition in batch.records:
            self._folds[partition].settle(handles)
            self._positions[partition] = batch.positions[partition]
        self._log_commit(batch, changes, times)
        return True

    async def _load(self, partition: int, records: list[Record]) -> None:
        fold = self._folds[partition]
        absent = fold.absent(records)
        if absent:
            rows = await self._store.load(partition, absent)
            fold.take_in((row.run_id, row.handle, row.body) for row in rows.values())

    def _fold(self, batch: Batch) -> Changes:
        changes = Changes()
        for partition, records in batch.records.items():
            expected, following = self._positions[partition], batch.positions[partition]
            self._folds[partition].fold(records, next_position=following, expected=expected, changes=changes)
        return changes

    async def _bear_with(self, error: StoreUnreachable) -> None:
        """Wait before the next try, longer each time; after the patience that is set, give up."""
        now = asyncio.get_running_loop().time()
        self._failing_since = self._failing_since or now
        failing = now - self._failing_since
        if failing >= self._options.patience:
            raise error
        pause = min(5.0, 0.1 + failing / 2)
        self._logger.error("commit_failed", reason=str(error), retry_in_seconds=round(pause, 1))
        await asyncio.sleep(pause)

    def _log_commit(self, batch: Batch, changes: Changes, times: list[float]) -> None:
        """The canonical line: one a batch, with all that can be asked about it."""
        load, fold, commit = (round((after - before) * 1000, 2) for before, after in pairwise(times))
        outcomes: dict[str, int] = {}
        for counts in changes.tally.values():
            for outcome, count in counts.items():
                outcomes[outcome] = outcomes.get(outcome, 0) + count
        newest = max(records[-1].timestamp for records in batch.records.values())
        self._logger.info(
            "batch_committed",
            records=sum(map(len, batch.records.values())),
            partitions=sorted(batch.records),
            positions=[batch.positions[which] for which in sorted(batch.records)],
            runs=len(changes.runs),
            usage_rows=len(changes.usage),
            letters=len(changes.letters),
            **outcomes,
            fetch_ms=round(batch.seconds * 1000, 2),
            load_ms=load,
            fold_ms=fold,
            commit_ms=commit,
            age_ms=max(0, int(time.time() * 1000) - newest) if newest >= 0 else None,
        )


async def _dismiss(task: asyncio.Task[Batch]) -> None:
    """Cancel a fetch whose records are not wanted any more: they are still in the log."""
    task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()
