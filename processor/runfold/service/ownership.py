"""Which partitions this worker folds: its fair share, by leases in the store.

Leases only balance; what keeps two workers from writing the same thing is the position compare of the store's transaction.
So everything here may be late, or wrong for a moment: it costs time, and never a record. Two tasks meet in an
:class:`Ownership`: the *keeper* renews, looks and claims, and the *consumer* takes up what was claimed and lets go of what
is to be handed over, between two batches, when nothing of it is in hand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, NamedTuple

from runfold.fold.changes import PositionChange
from runfold.fold.rules import COMPATIBLE, FOLD_VERSION, Rules
from runfold.log.port import LogSource, LogUnreachable
from runfold.service.losses import Losses
from runfold.service.observer import Observer
from runfold.service.same_log import LastRecords
from runfold.service.sharing import fair_share
from runfold.service.trial import Killers
from runfold.store.growth import with_open_runs
from runfold.store.port import Lease, PartitionsGrown, StalePosition, Store, StoreUnreachable
from runfold.telemetry import Logger

LOOK_SECONDS: Final = 0.25
"""How often it is looked who is there and what lies free: a partition that was let go of waits no longer than this."""
_AFTER_FAILURE: Final = 1.0


class Change(NamedTuple):
    """What the consumer has to do between two batches: take up ``arrived``, drop ``left``, let go of ``given`` among them."""

    arrived: dict[int, Lease]
    left: set[int]
    given: dict[int, Lease]


class Ownership:
    """Claims, renews, hands over and releases the partitions of one log in one store.

    ``leases`` are those that are folded now. ``lost`` is set when nothing in hand is worth anything any more, and ``retake``
    has to be called; ``changed`` when partitions came, went, or are to be handed over, and ``collect`` has to be.
    """

    def __init__(
        self,
        source: LogSource,
        store: Store,
        *,
        owner: str,
        rules: Rules,
        lease: float,
        losses: Losses,
        killers: Killers,
        logger: Logger,
        observer: Observer,
    ) -> None:
        self._source, self._store, self._rules = source, store, rules
        self._lease, self._logger, self._observer = lease, logger, observer
        self._losses, self.killers = losses, killers
        self._last = LastRecords(source)
        self._turn = asyncio.Lock()  # one claim at a time, and what it gave is known before the next is thought of
        self._arrived: dict[int, Lease] = {}
        self._gone: set[int] = set()
        self._giving: int | None = None
        self._look_at_log = 0.0
        self.owner = owner
        self.partitions = self.quota = 0
        self.leases: dict[int, Lease] = {}
        self.lost, self.changed = asyncio.Event(), asyncio.Event()
        self._joined = asyncio.Event()

    @property
    def joined(self) -> bool:
        """Whether :meth:`join` has come to its end once."""
        return self._joined.is_set()

    async def join(self) -> dict[int, Lease]:
        """Take a fair share, as far as it lies free. Raises as :meth:`retake`."""
        self.partitions = await self._source.partitions()
        async with self._turn:
            share = fair_share(self.owner, (), await self._store.crew(), partitions=self.partitions)
            self.quota = share.quota
            self.leases = await self._claim(share.take)
            self._tell_what_is_held(self.leases)
        self._joined.set()
        return self.leases

    async def keep(self) -> None:
        """The keeper's part, once joined and until cancelled.

        1. A third of a lease after the last time, renew, and say so that this worker is alive. What is not renewed has a
           new owner, or a new epoch: it is *gone*. This asks the store alone, so that nobody loses a partition because
           Kafka does not answer.
        2. Every LOOK_SECONDS, look who is alive and who holds what, and reckon the fair share. As often as leases are
           renewed, the log's partitions are counted, and its last records read again.
        3. Below it: claim what lies free, see that the log is whole there, and lay it ready: it has *arrived*.
        4. Above it, and nothing lies free: one partition is to be *given*.

        The consumer, between two batches: (5) drops what is gone or given, and takes up what arrived, with the position that
        the claim read; (6) has the source read on from its positions, those of kept partitions as they were; (7) releases
        what is given. Whatever others do in between, a batch of an epoch that has passed is refused whole.

        A failure is told and tried again: it is the consumer's commits that tell whether the store can still be written.
        Raises what waiting does not mend.
        """
        await self._joined.wait()
        tasks = [
            asyncio.create_task(self._again_and_again(self._renew, pause=self._lease / 3, failed="leases_not_renewed")),
            asyncio.create_task(self._again_and_again(self._look, pause=LOOK_SECONDS, failed="share_not_looked_at")),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # they end by an error alone
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _again_and_again(self, step: Callable[[], Awaitable[None]], *, pause: float, failed: str) -> None:
        """A step of the keeper's. Of an outage it is told once, when it begins."""
        failing = False
        while True:
            try:
                await step()
            except (StoreUnreachable, LogUnreachable, StalePosition) as error:
                if not failing:
                    self._logger.warning(failed, reason=str(error))
                failing = True
                await asyncio.sleep(min(_AFTER_FAILURE, self._lease / 3))
            else:
                failing = False
                await asyncio.sleep(pause)

    def collect(self) -> Change:
        """What has changed since the last time; from here on ``leases`` says the same."""
        self.changed.clear()
        arrived, self._arrived = self._arrived, {}
        left, self._gone = self._gone, set()
        giving, self._giving = self._giving, None
        given = {which: lease for which, lease in self.leases.items() if which == giving and which not in left}
        left |= given.keys()
        self.leases = {which: lease for which, lease in self.leases.items() if which not in left} | arrived
        self._last.forget(left - arrived.keys())
        if arrived:
            self._tell_what_is_held(arrived)
        return Change(arrived, left, given)

    async def hand_over(self, given: Mapping[int, Lease]) -> None:
        """Step 7: nothing of these is in hand, and nothing more is read."""
        await self._store.release(self.owner, given)
        self._logger.info("partitions_handed_over", owner=self.owner, partitions=sorted(given))

    async def retake(self) -> dict[int, Lease]:
        """Claim what is held again: a new epoch shuts out what is under way, and tells where the store stands.

        Raises StoreRefused or RangeLost where it cannot go on, StoreUnreachable or LogUnreachable where it may later.
        """
        async with self._turn:
            leases = await self._claim(self.leases.keys() | self._arrived.keys())
            self._last.forget(self.leases.keys() - leases.keys())
            self.leases, self._arrived, self._gone, self._giving = leases, {}, set(), None
            self.lost.clear()
            self._tell_what_is_held(leases)
        return leases

    def folded(self, positions: Mapping[int, PositionChange]) -> None:
        """These positions are committed."""
        self._last.folded(positions)

    async def leave(self) -> None:
        """Let go of everything, so that the next owner need not wait."""
        held, self.leases = self.leases, {}
        await self._store.leave(self.owner)
        if held:
            self._observer.partitions_released(held)
            self._logger.info("partitions_released", owner=self.owner, partitions=sorted(held))

    async def _bind(self) -> None:
        """Tie the store to this log, or find that it belongs to it. Raises StoreRefused where it does not."""
        identity = await self._source.identity()
        try:
            await self._store.bind(
                cluster_id=identity.cluster_id,
                topic=identity.topic,
                partitions=self.partitions,
                fold_version=FOLD_VERSION,
                compatible=COMPATIBLE,
                settings_hash=self._rules.settings_hash,
            )
        except PartitionsGrown as refused:
            raise await with_open_runs(refused, self._store) from refused

    async def _renew(self) -> None:
        """Step 1."""
        leases = {which: lease for which, lease in self.leases.items() if which not in self._gone} | self._arrived
        kept = await self._store.renew(self.owner, leases, lease=self._lease)
        self._observer.leases_renewed()
        # Only those that are still held as they were: what was claimed anew meanwhile, or given, is not lost.
        gone = {which for which in leases.keys() - kept if self._held().get(which) is leases[which]}
        if gone:
            self._logger.warning("leases_lost", owner=self.owner, partitions=sorted(gone))
            self._arrived = {which: lease for which, lease in self._arrived.items() if which not in gone}
            self._gone |= gone & self.leases.keys()
            self.changed.set()

    async def _look(self) -> None:
        """Steps 2 to 4."""
        now = asyncio.get_running_loop().time()
        if now >= self._look_at_log:
            if (partitions := await self._source.partitions()) != self.partitions:
                self.partitions = partitions
                await self._bind()
            await self._last.check(self._held())
            self._look_at_log = now + self._lease / 3
        await self._balance()

    async def _balance(self) -> None:
        crew = await self._store.crew()
        async with self._turn:
            held = self._held().keys() - self._gone
            share = fair_share(self.owner, held, crew, partitions=self.partitions)
            self.quota = share.quota
            if share.take and not self.lost.is_set():
                arrived = await self._claim(share.take)
                self._arrived |= arrived
                if arrived:
                    self.changed.set()
            elif share.give and self.leases.keys() - self._gone and self._giving is None:
                self._giving = max(self.leases.keys() - self._gone)
                self.changed.set()

    def _held(self) -> dict[int, Lease]:
        return self.leases | self._arrived

    async def _claim(self, wanted: Collection[int]) -> dict[int, Lease]:
        """Claim those of the wanted that can be had, and see that each can be read on from where the store stands."""
        await self._bind()  # each time, for the log may have been made anew under a living service
        if not wanted:
            return {}
        ranges = await self._source.ranges(sorted(wanted))
        begins = {which: held.begin for which, held in ranges.items()}
        leases = await self._store.claim(self.owner, begins, lease=self._lease)
        if lost := await self._losses.accepted(leases, begins):
            leases |= await self._store.claim(self.owner, {which: begins[which] for which in lost}, lease=self._lease)
        for lease in leases.values():
            self._last.expect(lease)
        await self._last.check(leases)
        await self.killers.look_at(leases, ends={which: held.end for which, held in ranges.items()})
        return leases

    def _tell_what_is_held(self, new: Mapping[int, Lease]) -> None:
        self._logger.info(
            "partitions_taken",
            owner=self.owner,
            partitions=sorted(self.leases),
            share=self.quota,
            positions={which: lease.position for which, lease in sorted(new.items())},
            taken_from={which: lease.taken_from for which, lease in sorted(new.items()) if lease.taken_from},
        )
