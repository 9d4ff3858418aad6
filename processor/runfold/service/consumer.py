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

from msgspec.structs import replace

from runfold.fold.batch import PartitionFold
from runfold.fold.changes import Changes
from runfold.fold.rules import Rules
from runfold.log.port import LogSource, LogUnreachable, RangeLost
from runfold.service.ending import Ending
from runfold.service.fetching import Batch, dismiss, fetch
from runfold.service.observer import Observer
from runfold.service.options import Options
from runfold.service.ownership import Ownership
from runfold.service.patience import Patience
from runfold.service.telling import canonical_line
from runfold.store.port import Lease, StalePosition, Store, StoreUnreachable
from runfold.telemetry import Logger


class Consumer:
    """Folds partitions of one log into one store until told to stop. Owns neither: they come opened.

    ``run`` returns after ``stop`` is set and what was in hand is committed, or when ``ending``, if there is one, is reached.
    """

    def __init__(
        self,
        source: LogSource,
        store: Store,
        ownership: Ownership,
        *,
        rules: Rules,
        options: Options,
        logger: Logger,
        observer: Observer,
    ) -> None:
        self._source, self._store, self._ownership = source, store, ownership
        self._rules, self._options, self._logger, self._observer = rules, options, logger, observer
        self._folds: dict[int, PartitionFold] = {}
        self._positions: dict[int, int] = {}
        self._read_to: dict[int, int] = {}
        self._fetching: asyncio.Task[Batch] | None = None
        self._thread = ThreadPoolExecutor(1, "runfold-fold")

    async def run(self, stop: asyncio.Event, *, ending: Ending | None = None) -> None:
        """Fold until stopped. Raises what the log and the store raise where patience does not help."""
        patience = Patience(self._options.patience, stop)
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                try:
                    if not self._ownership.joined:
                        self._observer.partitions_wanted()
                        self._begin_anew(await self._ownership.join())
                    if ending is not None and await ending.is_reached(self._positions | self._read_to):
                        return
                    await self._round(stopping)
                except (StalePosition, StoreUnreachable, LogUnreachable) as error:
                    self._ownership.lost.set()
                    self._observer.batch_dropped(error)
                    self._logger.warning("batch_dropped", reason=str(error), cause=type(error).__name__)
                    await patience.bear(error)
                else:
                    patience.rewarded()
        finally:
            stopping.cancel()
            await self._drop_fetch()
            self._thread.shutdown(wait=False)

    async def _round(self, stopping: asyncio.Task[bool]) -> None:
        """One batch, or none where none came. What has changed about the partitions first."""
        if self._ownership.lost.is_set():
            await self._drop_fetch()
            self._observer.partitions_wanted()
            self._begin_anew(await self._ownership.retake())
        elif self._ownership.changed.is_set():
            await self._adjust()
        fetching = self._fetching = self._fetching or self._begin_fetch()
        await self._any_of(fetching, stopping)
        if not fetching.done():
            return
        self._fetching = None
        batch = _fetched(fetching)
        if not batch.size:
            self._note_what_was_read()
            return
        for part in self._ownership.killers.cut(batch):
            if stopping.done():
                break
            await self._fold_and_commit(part)

    async def _any_of(self, fetching: asyncio.Task[Batch], stopping: asyncio.Task[bool]) -> None:
        """Wait until there is something to do."""
        changing = asyncio.create_task(self._ownership.changed.wait())
        try:
            await asyncio.wait((fetching, stopping, changing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            changing.cancel()

    def _note_what_was_read(self) -> None:
        """Nothing is in hand: all that the log gives up to its source's positions is folded.

        They are ahead of the store's where a log ends with what is no record, such as the mark of a transaction's end.
        """
        self._read_to = {which: self._source.position(which) for which in self._positions}
        self._source.tell_progress(self._read_to)
        self._observer.log_read(self._read_to)

    def _begin_fetch(self) -> asyncio.Task[Batch]:
        options = self._options
        if self._ownership.killers.wary:
            options = replace(options, batch_records=min(options.batch_records, options.wary_records))
        return asyncio.create_task(fetch(self._source, options))

    async def _drop_fetch(self) -> None:
        fetching, self._fetching = self._fetching, None
        if fetching is not None:
            await dismiss(fetching)

    def _begin_anew(self, leases: Mapping[int, Lease]) -> None:
        """Read on from where the store stands: no position in hand counts any more."""
        self._folds, self._positions = {}, {}
        self._take_up(leases)

    def _take_up(self, leases: Mapping[int, Lease]) -> None:
        """Fold these partitions too, and have the source read on from all positions: whatever was fetched is dropped."""
        for partition, lease in leases.items():
            self._positions[partition] = lease.position
            self._folds[partition] = PartitionFold(
                partition,
                rules=self._rules,
                set_aside=self._ownership.killers.set_aside.get(partition),
                most_runs=self._options.open_runs,
                compiled=self._options.compiled,
            )
        self._read_to = {}
        self._source.assign(self._positions)
        others = {partition for partition, lease in leases.items() if lease.taken_from}
        self._observer.partitions_taken(self._positions, share=self._ownership.quota, taken_over=others)

    async def _adjust(self) -> None:
        """Steps 5 to 7 of :meth:`Ownership.keep`. The other partitions' runs stay in hand."""
        await self._drop_fetch()
        change = self._ownership.collect()
        for partition in change.left:
            del self._folds[partition], self._positions[partition]
        if change.given:
            self._observer.partitions_released(change.given)
        self._take_up(change.arrived)
        if change.given:
            await self._ownership.hand_over(change.given)

    async def _fold_and_commit(self, batch: Batch) -> None:
        """Steps 2 to 5. Raises what the store raises: then the folds in hand are ahead of it, and have to be dropped."""
        killers, leases = self._ownership.killers, self._ownership.leases
        if (trial := killers.on_trial(batch)) is not None:
            partition, offset = trial
            await self._store.begin_trial(leases[partition], offset)
        loop = asyncio.get_running_loop()
        times = [loop.time()]
        absent = {which: self._folds[which].absent(records) for which, records in batch.records.items()}
        if any(absent.values()):
            for row in await self._store.load_each(absent):
                self._folds[row.partition].take_in(((row.run_id, row.handle, row.body),))
        times.append(loop.time())
        # Not sooner: taking records keeps this loop from loading. Not later: it keeps the store from its transaction.
        self._fetching = self._fetching or self._begin_fetch()
        changes = await loop.run_in_executor(self._thread, self._fold, batch)
        times.append(loop.time())
        handles = await self._store.apply(changes, leases)
        times.append(loop.time())
        for partition, following in batch.positions.items():
            self._folds[partition].settle(handles)
            self._positions[partition] = following
        self._read_to = {}
        self._ownership.folded(changes.positions)
        killers.passed(batch.positions)
        self._source.tell_progress(batch.positions)
        self._observer.batch_committed(batch, changes, times)
        lag = self._observer.lag(batch.positions)
        self._logger.info("batch_committed", **canonical_line(batch, changes, times, lag=lag))

    def _fold(self, batch: Batch) -> Changes:
        changes = Changes()
        for partition, following in batch.positions.items():
            records, expected = batch.records.pop(partition), self._positions[partition]
            self._folds[partition].fold(records, next_position=following, expected=expected, changes=changes)
        return changes


def _fetched(fetching: asyncio.Task[Batch]) -> Batch:
    """What a fetch gave. A range that was lost meanwhile is dealt with where partitions are taken: see losses."""
    try:
        return fetching.result()
    except RangeLost as error:
        raise LogUnreachable(str(error)) from error
