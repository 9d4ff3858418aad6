"""Verify: is the store what the log says? The log is folded again, up to the store's own positions, and both are compared.

It runs beside a living service and takes nothing from it: the shadow is a file of its own, thrown away afterwards. What
may change here is what is said of a difference; what is compared is what :mod:`runfold.store.digest` covers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from runfold.fold.admit import Decode
from runfold.fold.rules import Rules
from runfold.log.port import LogSource, Range
from runfold.replay.differences import Finding, findings
from runfold.replay.partial import Chosen, OfRuns
from runfold.replay.refold import outdated
from runfold.replay.run_range import bind, check_fold
from runfold.replay.shadow import BATCH_RECORDS, Progress, Shadow
from runfold.replay.take_over import Place, RunKey, Spared, WithoutLetters, letters_of, take_over
from runfold.replay.workspace import fresh_store
from runfold.store.digest import StoreDigest, digest, in_chunks
from runfold.store.notes import set_aside_of
from runfold.store.port import REBUILD, Store, StoreRefused
from runfold.store.snapshot import StoreSnapshot
from runfold_schemas.codec import decode_lean

_ROUNDS: Final = 3
"""How often a shadow runs after a moving store before it takes the snapshot, and lets the write-ahead log grow."""


class Verification(Struct, frozen=True, kw_only=True):
    """The answer. ``stored`` and ``recomputed`` are the digests at ``positions``; without ``findings`` they are equal.

    ``superseded`` are runs, as (partition, run_id), with dead letters that today's code reads, or rejects in other words:
    the store is as older code had to leave it, and `dead-letters retry --readable` folds them again. ``superseded_letters``
    counts such letters of no run, which only a rebuild brings up to date. ``unverifiable`` counts the runs whose first
    records the log no longer has. None of them was compared. ``records`` counts the offsets that were read. ``runs`` counts
    the compared rows where only a part of the runs was asked for; then usage was not compared.
    """

    positions: dict[int, int]
    stored: StoreDigest
    recomputed: StoreDigest
    findings: list[Finding]
    superseded: list[RunKey]
    superseded_letters: int
    unverifiable: int
    records: int
    runs: int | None = None

    @property
    def identical(self) -> bool:
        return self.stored == self.recomputed


class Part(Struct, frozen=True, kw_only=True):
    """Which runs to verify, and, if that is known, where in each partition their records begin."""

    chosen: Chosen
    begins: Mapping[int, int] | None = None


async def verify(
    source: LogSource,
    store: Store,
    rules: Rules,
    *,
    workspace: Path,
    progress: Progress | None = None,
    decode: Decode = decode_lean,
    compiled: bool = True,
    part: Part | None = None,
) -> Verification:
    """Compare the store with the log. ``workspace`` is a folder with room for another store; nothing is left in it.

    With ``part`` only these runs are folded and compared, with their letters and journal; usage is not.

    1. A shadow is folded from the log until it is close behind the store.
    2. The store is frozen in a snapshot, and the shadow folds the few records up to the snapshot's positions.
    3. Runs that the log cannot speak about are taken over; digests are compared, and where they differ, rows.

    Raises StoreRefused where the store is of another log or fold, or stands beyond the log's end; LogError and StoreError.
    """
    owner = await check_fold(source, store, rules)
    set_aside = set_aside_of(await store.notes())
    async with fresh_store(workspace, listed=False) as beside:
        shadow = Shadow(
            source,
            beside,
            rules=rules,
            decode=decode,
            set_aside=set_aside,
            chosen=None if part is None else part.chosen,
            progress=progress,
            compiled=compiled,
        )
        await bind(beside, owner)
        return await _verify(source, store, shadow, rules=rules, decode=decode, part=part)


async def _verify(
    source: LogSource, store: Store, shadow: Shadow, *, rules: Rules, decode: Decode, part: Part | None
) -> Verification:
    """Steps 1 to 3 of :func:`verify`."""
    begins = None if part is None else part.begins
    lost = await _follow(source, store, shadow, begins=begins)
    snapshot = _view(await store.snapshot(), part)
    try:
        positions = await snapshot.positions()
        lost |= await _begin(source, store, shadow, positions, begins=begins)
        await shadow.advance(positions)
        return await _compare(snapshot, shadow, lost=lost, rules=rules, decode=decode, part=part)
    finally:
        await snapshot.close()


def _view(snapshot: StoreSnapshot, part: Part | None) -> StoreSnapshot:
    return snapshot if part is None else OfRuns(whole=snapshot, chosen=part.chosen)


async def _follow(
    source: LogSource, store: Store, shadow: Shadow, *, begins: Mapping[int, int] | None
) -> dict[int, int]:
    """Fold until the shadow is close behind the store; returns the begins of partitions that lost their first records."""
    lost: dict[int, int] = {}
    for _ in range(_ROUNDS):
        positions = {status.partition: status.position for status in await store.partitions()}
        lost |= await _begin(source, store, shadow, positions, begins=begins)
        behind = sum(max(0, position - shadow.positions[which]) for which, position in positions.items())
        if behind < BATCH_RECORDS:
            break
        await shadow.advance(positions)
    return lost


async def _begin(
    source: LogSource,
    store: Store,
    shadow: Shadow,
    positions: Mapping[int, int],
    *,
    begins: Mapping[int, int] | None,
) -> dict[int, int]:
    """Begin the partitions that are new to the shadow where store and log begin; returns what the log has lost of them.

    ``begins``, if given, is where there is something to fold: partitions without are passed over.
    """
    ranges = await source.ranges(list(positions))
    for partition, position in positions.items():
        _check_reached(partition, position, ranges[partition])
    new = positions.keys() - shadow.positions.keys()
    if not new:
        return {}
    firsts = {status.partition: status.first_offset for status in await store.partitions() if status.partition in new}
    # What the log had lost before it was folded is as if the log began behind it, though an archive may have it.
    behind = {lost.partition: lost.end for lost in await store.lost_ranges() if lost.accepted_at is not None}
    starts = {which: max(first, ranges[which].begin, behind.get(which, 0)) for which, first in firsts.items()}
    wanted = starts if begins is None else {which: max(starts[which], begins.get(which, 2**62)) for which in starts}
    await shadow.begin({which: min(start, positions[which]) for which, start in wanted.items()})
    return {which: start for which, start in starts.items() if start > firsts[which]}


def _check_reached(partition: int, position: int, held: Range) -> None:
    if position > held.end:
        raise StoreRefused(
            f"the store stands at position {position} of partition {partition}, and the log ends at {held.end}: this is not "
            "the log it was folded from, or the position was tampered with; name the store's own log in RUNFOLD_LOG, or "
            f"{REBUILD}"
        )


async def _compare(
    snapshot: StoreSnapshot,
    shadow: Shadow,
    *,
    lost: dict[int, int],
    rules: Rules,
    decode: Decode,
    part: Part | None,
) -> Verification:
    stored = await digest(snapshot)
    unverifiable = await take_over(snapshot, shadow, Spared(begins=lost)) if lost else 0
    beside = _view(await shadow.store.snapshot(), part)
    try:
        recomputed = await digest(beside)
        superseded, letters = set[RunKey](), set[Place]()
        if stored != recomputed and (outdated_letters := await _outdated(snapshot, rules, decode)):
            superseded = {key for key in outdated_letters.values() if key is not None}
            letters = {place for place, key in outdated_letters.items() if key is None}
            await beside.close()
            await take_over(snapshot, shadow, Spared(runs=superseded))
            snapshot = WithoutLetters(whole=snapshot, left_out=letters)
            beside = WithoutLetters(whole=_view(await shadow.store.snapshot(), part), left_out=letters)
            stored, recomputed = await digest(snapshot), await digest(beside)
        return Verification(
            positions=await snapshot.positions(),
            stored=stored,
            recomputed=recomputed,
            findings=await findings(snapshot, beside, shadow.last_offsets, stored=stored, recomputed=recomputed),
            superseded=sorted(superseded),
            superseded_letters=len(letters),
            unverifiable=unverifiable,
            records=shadow.done,
            runs=None if part is None else sum(1 for _ in snapshot.scan_runs()),
        )
    finally:
        await beside.close()


async def _outdated(snapshot: StoreSnapshot, rules: Rules, decode: Decode) -> dict[Place, RunKey | None]:
    """Where the letters stand that today's code judges otherwise, and the run of each, if it has one."""
    found: dict[Place, RunKey | None] = {}
    for partition in await snapshot.positions():
        async for letters in in_chunks(letters_of(snapshot, partition)):
            for letter in outdated(letters, rules=rules, decode=decode):
                run_id = letter.run_id
                found[partition, letter.offset] = None if run_id is None else (partition, run_id)
    return found
