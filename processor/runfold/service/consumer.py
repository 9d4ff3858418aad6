"""The consumer: reads the partitions it owns, folds batches and commits them, each in the store's one transaction.

A batch goes this way: (1) fetched, while the one before commits; (2) its runs loaded from the store; (3) folded, on a
thread of its own; (4) applied: rows, usage, letters and positions together, or not at all; (5) settled. When somebody
else has written meanwhile, step 4 refuses: everything in hand is dropped, the partitions are taken again, and reading goes
on from where the store stands. The same is done after any step that failed. Nothing else is ever a commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from runfold.fold.batch import PartitionFold
from runfold.fold.changes import Changes
from runfold.fold.rules import Rules
from runfold.log.port import LogSource, LogUnreachable
from runfold.service.fetching import Batch, dismiss, fetch
from runfold.service.options import Options
from runfold.service.ownership import Ownership
from runfold.service.patience import Patience
from runfold.service.telling import canonical_line
from runfold.store.port import StalePosition, Store, StoreUnreachable
from runfold.telemetry import Logger


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
        self._read_to: dict[int, int] = {}
        self._fetching: asyncio.Task[Batch] | None = None
        self._thread = ThreadPoolExecutor(1, "runfold-fold")

    async def run(self, stop: asyncio.Event, *, ends: Mapping[int, int] | None = None) -> None:
        """Fold until stopped. Raises what the log and the store raise where patience does not help."""
        patience = Patience(self._options.patience, stop)
        stopping = asyncio.create_task(stop.wait())
        self._ownership.lost.set()  # nothing is taken yet: the first round does, with the patience of all others
        try:
            while not stop.is_set() and not self._reached(ends):
                try:
                    await self._round(stopping, ends)
                except (StalePosition, StoreUnreachable, LogUnreachable) as error:
                    self._ownership.lost.set()
                    self._logger.warning("batch_dropped", reason=str(error), cause=type(error).__name__)
                    await patience.bear(error)
                else:
                    patience.rewarded()
        finally:
            stopping.cancel()
            await self._drop_fetch()
            self._thread.shutdown(wait=False)

    async def _round(self, stopping: asyncio.Task[bool], ends: Mapping[int, int] | None) -> None:
        """One batch, or none where none came. At first, after a failure and when a lease was lost the partitions first."""
        if self._ownership.lost.is_set():
            await self._drop_fetch()
            await self._take_partitions()
            if self._reached(ends):
                return
        fetching = self._fetching = self._fetching or self._begin_fetch()
        await asyncio.wait((fetching, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not fetching.done():
            return
        self._fetching = None
        batch = fetching.result()
        if batch.size:
            self._fetching = self._begin_fetch()
            await self._fold_and_commit(batch)
        else:
            self._note_what_was_read()

    def _note_what_was_read(self) -> None:
        """Nothing is in hand: all that the log gives up to its source's positions is folded.

        They are ahead of the store's where a log ends with what is no record, such as the mark of a transaction's end.
        """
        self._read_to = {which: self._source.position(which) for which in self._positions}
        self._source.tell_progress(self._read_to)

    def _reached(self, ends: Mapping[int, int] | None) -> bool:
        if ends is None:
            return False
        read_to = self._positions | self._read_to
        return all(read_to.get(which, -1) >= end for which, end in ends.items())

    def _begin_fetch(self) -> asyncio.Task[Batch]:
        return asyncio.create_task(fetch(self._source, self._options))

    async def _drop_fetch(self) -> None:
        fetching, self._fetching = self._fetching, None
        if fetching is not None:
            await dismiss(fetching)

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
        self._read_to = {}
        self._source.assign(self._positions)

    async def _fold_and_commit(self, batch: Batch) -> None:
        """Steps 2 to 5. Raises what the store raises: then the folds in hand are ahead of it, and have to be dropped."""
        loop = asyncio.get_running_loop()
        times = [loop.time()]
        for partition, records in batch.records.items():
            fold = self._folds[partition]
            if absent := fold.absent(records):
                rows = await self._store.load(partition, absent)
                fold.take_in((row.run_id, row.handle, row.body) for row in rows.values())
        times.append(loop.time())
        changes = await loop.run_in_executor(self._thread, self._fold, batch)
        times.append(loop.time())
        handles = await self._store.apply(changes, self._ownership.leases)
        times.append(loop.time())
        for partition, following in batch.positions.items():
            self._folds[partition].settle(handles)
            self._positions[partition] = following
        self._read_to = {}
        self._ownership.folded(changes.positions)
        self._source.tell_progress(batch.positions)
        self._logger.info("batch_committed", **canonical_line(batch, changes, times))

    def _fold(self, batch: Batch) -> Changes:
        changes = Changes()
        for partition, following in batch.positions.items():
            records, expected = batch.records.pop(partition), self._positions[partition]
            self._folds[partition].fold(records, next_position=following, expected=expected, changes=changes)
        return changes
