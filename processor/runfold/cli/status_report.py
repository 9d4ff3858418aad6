"""What ``runfold status`` knows: where the store stands in the log, what is odd among its runs, and what of it is unhealthy.

Ages are by this machine's clock, which may differ a little from the log's and the store's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from runfold.cli.printing import shown_time
from runfold.fold.changes import Letter
from runfold.fold.rules import COMPATIBLE, FOLD_VERSION, Rules
from runfold.log.port import HeldBack, LogSource, Range
from runfold.log.waiting import first_waiting
from runfold.replay.refold import readable
from runfold.replay.run_range import every_letter
from runfold.store.claims import STALLS
from runfold.store.growth import with_open_runs
from runfold.store.identity import check_owner
from runfold.store.notes import DISCARD, SET_ASIDE
from runfold.store.port import (
    Growth,
    LostRange,
    PartitionsGrown,
    PartitionStatus,
    Store,
    StoreIdentity,
    StoreRefused,
    WorkerStatus,
)
from runfold_schemas import RunStatus

STUCK_SECONDS = 60.0
"""So long may a record wait although somebody owns its partition, before that is called unhealthy."""


class PartitionReport(Struct, frozen=True, kw_only=True):
    """One partition. ``lag`` is in offsets; ``lag_seconds`` is how long the oldest record waits, None where unknown.

    ``held_back`` is how many offsets beyond the end an open transaction blocks, ``held_back_seconds`` for how long.
    ``takeovers`` counts how often an owner was replaced that had not let go, ``stalled`` those in a row without progress.
    """

    partition: int
    begin: int
    end: int
    position: int
    lag: int
    lag_seconds: float | None
    held_back: int
    held_back_seconds: float | None
    owner: str | None
    takeovers: int
    stalled: int
    committed_at: int | None
    outcomes: dict[str, int]


class WorkerReport(Struct, frozen=True, kw_only=True):
    """One worker. ``silent_seconds`` is how long ago it last said that it is alive; ``alive`` whether its lease still runs."""

    owner: str
    alive: bool
    silent_seconds: float
    since: int
    partitions: list[int]


class SetAside(Struct, frozen=True, kw_only=True):
    """A record that is not folded any more, because it ended the processes that did, or because somebody said so."""

    partition: int
    offset: int
    reason: str
    noted_at: int


class Report(Struct, frozen=True, kw_only=True):
    """All of it. ``unhealthy`` has a sentence for each thing that somebody has to see to now.

    ``remarks`` are of what is right here but was caused elsewhere, and what to do there.
    """

    healthy: bool
    unhealthy: list[str]
    remarks: list[str]
    partitions: list[PartitionReport]
    workers: list[WorkerReport]
    set_aside: list[SetAside]
    lost_ranges: list[LostRange]
    growths: list[Growth]
    runs: dict[str, int]
    without_created: int
    missing: int
    flagged: int
    split: int
    without_usage: int
    dead_letters: dict[str, int]
    discarded: int
    readable: int


async def report(source: LogSource, store: Store, *, rules: Rules, now: int) -> Report:
    """Look at log and store. ``now`` is in Unix milliseconds. Raises LogError or StoreError."""
    known = {found.partition: found for found in await store.partitions()}
    ranges = await source.ranges(range(await source.partitions()))
    blocked = await source.held_back(list(ranges))
    partitions = [
        await _partition(source, which, held=held, blocked=blocked.get(which), known=known.get(which), now=now)
        for which, held in sorted(ranges.items())
    ]
    lost = await store.lost_ranges()
    unhealthy = [line for found in partitions for line in _unhealthy(found)] + await _foreign(source, store, rules)
    unhealthy += [_lost(each) for each in lost if each.accepted_at is None and not _is_told(each, known)]
    counts = await store.count_runs()
    notes = await store.notes()
    return Report(
        healthy=not unhealthy,
        unhealthy=unhealthy,
        remarks=_remarks(counts),
        partitions=partitions,
        workers=[_worker(found, known.values(), now=now) for found in await store.workers()],
        set_aside=[
            SetAside(partition=note.partition, offset=note.offset, reason=note.reason, noted_at=note.noted_at)
            for note in notes
            if note.kind == SET_ASIDE
        ],
        lost_ranges=lost,
        growths=await store.growths(),
        runs={status.wire: counts[status.wire] for status in RunStatus},
        **{name: counts[name] for name in ("without_created", "missing", "flagged", "split")},
        without_usage=sum(row.sums[1] for row in await store.usage()),
        dead_letters=await store.count_letters(),
        discarded=sum(note.kind == DISCARD for note in notes),
        readable=len(await readable_letters(store, rules)),
    )


async def _partition(
    source: LogSource,
    which: int,
    *,
    held: Range,
    blocked: HeldBack | None,
    known: PartitionStatus | None,
    now: int,
) -> PartitionReport:
    position = held.begin if known is None else known.position
    waiting = await first_waiting(source, which, position=max(position, held.begin), end=held.end)
    return PartitionReport(
        partition=which,
        begin=held.begin,
        end=held.end,
        position=position,
        lag=held.end - position if waiting is not None else 0,
        lag_seconds=0.0 if waiting is None else _seconds_since(waiting.timestamp, now=now),
        held_back=0 if blocked is None else blocked.offsets,
        held_back_seconds=0.0 if blocked is None else _seconds_since(blocked.since, now=now),
        owner=known.owner if known is not None and known.lease_until > now else None,
        takeovers=0 if known is None else known.history.takeovers,
        stalled=0 if known is None else known.history.stalled,
        committed_at=None if known is None else known.committed_at,
        outcomes={} if known is None else known.tally,
    )


def _worker(found: WorkerStatus, known: Iterable[PartitionStatus], *, now: int) -> WorkerReport:
    return WorkerReport(
        owner=found.owner,
        alive=found.alive_until > now,
        silent_seconds=max(0, now - found.seen_at) / 1000,
        since=found.since,
        partitions=[each.partition for each in known if each.owner == found.owner],
    )


def _seconds_since(time: int, *, now: int) -> float | None:
    return None if time < 0 else max(0, now - time) / 1000


def _unhealthy(found: PartitionReport) -> list[str]:
    where = f"partition {found.partition}"
    if found.position > found.end:
        return [f"{where}: the store stands at {found.position}, and the log ends at {found.end}: it is another log"]
    if found.position < found.begin:
        what = f"offsets {found.position} to {found.begin - 1} are gone from the log and were never folded"
        return [f"{where}: {what}: `runfold serve --accept-loss` goes on behind them"]
    if (found.held_back_seconds or 0.0) > STUCK_SECONDS:
        what = f"{found.held_back:,} offsets from {found.end} on are blocked by an open transaction"
        return [
            f"{where}: {what} for {found.held_back_seconds:.0f} s: end or abort it (kafka-transactions.sh finds it)"
        ]
    if found.lag and found.stalled >= STALLS:
        what = f"{found.stalled} owners in a row ended without getting on from {found.position}"
        return [f"{where}: {what}: a record may be what ends them; it is looked for, and will be set aside"]
    if found.lag and found.owner is None:
        return [f"{where}: {found.lag:,} records wait and nobody folds it: start `runfold serve`"]
    if (found.lag_seconds or 0.0) > STUCK_SECONDS:
        return [f"{where}: a record has waited for {found.lag_seconds:.0f} s: see the logs of {found.owner}"]
    return []


def _remarks(counts: Mapping[str, int]) -> list[str]:
    """Split runs stay split for as long as they are kept: so they make nothing unhealthy."""
    if not (split := counts["split"]):
        return []
    told = (
        f"{split:,} runs have events on more than one partition, and each partition folds its own alone: publishers place "
        "keys by different rules, or partitions were added. Let all of them use the rule of Kafka's own clients "
        "(partitioner=murmur2_random in those built on librdkafka); such a run is shown by the part that has its `created`"
    )
    return [told]


def _lost(found: LostRange) -> str:
    where = f"partition {found.partition}: offsets {found.begin} to {found.end - 1} were lost before they were folded"
    return f"{where}, noticed at {shown_time(found.noticed_at)} UTC, accepted by nobody"


def _is_told(lost: LostRange, known: Mapping[int, PartitionStatus]) -> bool:
    """Whether its partition still stands at its begin, and says so itself."""
    at = known.get(lost.partition)
    return at is not None and at.position == lost.begin


async def _foreign(source: LogSource, store: Store, rules: Rules) -> list[str]:
    """Why `serve` would refuse this store, if it would."""
    identity = await source.identity()
    owner = StoreIdentity(
        schema_version=0,
        cluster_id=identity.cluster_id,
        topic=identity.topic,
        partitions=await source.partitions(),
        fold_version=FOLD_VERSION,
        settings_hash=rules.settings_hash,
    )
    try:
        check_owner(await store.identity(), owner, compatible=COMPATIBLE)
    except PartitionsGrown as grown:
        return [str(await with_open_runs(grown, store))]
    except StoreRefused as refused:
        return [str(refused)]
    return []


async def readable_letters(store: Store, rules: Rules) -> list[Letter]:
    """The standing letters that today's code reads as events."""
    return readable(await standing_letters(store), rules=rules)


async def standing_letters(store: Store) -> list[Letter]:
    """All letters but the discarded ones."""
    discarded = {(note.partition, note.offset) for note in await store.notes() if note.kind == DISCARD}
    return [letter async for letter in every_letter(store) if (letter.partition, letter.offset) not in discarded]
