"""As it was: a run, and all runs, as the log stood at a cut. The store answers where it can, else the log is folded again.

The store has a run's latest state alone. It can tell how the run was at a cut when it has folded everything before the cut,
and nothing of the run stands behind it; otherwise the run is folded again from its own range, up to the cut. For a list of
runs a shadow is folded from the whole log before the cut. What may change here is where an answer is taken from; what the
answer is, the fold decides.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from runfold.fold.admit import Decode
from runfold.fold.rules import Rules
from runfold.fold.state import RunState, decode_state
from runfold.log.port import LogSource
from runfold.replay.cut import Cut
from runfold.replay.refold import refold
from runfold.replay.run_range import (
    RefoldRefused,
    RunRange,
    bind,
    check_covered,
    check_fold,
    check_log,
    known_ranges,
)
from runfold.replay.shadow import Progress, Shadow
from runfold.replay.workspace import fresh_store
from runfold.store.notes import set_aside_of
from runfold.store.port import Store
from runfold_schemas.codec import decode_lean

Origin = Literal["store", "log"]
"""Where an answer was taken from."""


class PartAsOf(Struct, frozen=True, kw_only=True):
    """What one partition knew of a run; ``state`` is None where nothing of it stood before the cut, or letters alone."""

    partition: int
    state: RunState | None
    origin: Origin


async def run_as_of(
    source: LogSource, store: Store, rules: Rules, *, run_id: str, cut: Cut, decode: Decode = decode_lean
) -> list[PartAsOf]:
    """The run as each partition of the cut knew it, by partition.

    Raises StoreRefused where the store is of another log, RefoldRefused where the log lacks what would have to be folded.
    """
    await check_log(source, store, rules)
    set_aside = set_aside_of(await store.notes())
    known = {part.partition: part for part in await known_ranges(store, run_id)}
    positions = {status.partition: status.position for status in await store.partitions()}
    begins = {which: held.begin for which, held in (await source.ranges(list(cut))).items()}
    parts = []
    for partition, end in sorted(cut.items()):
        position = positions.get(partition, begins[partition])
        part = known.get(partition, _unseen(run_id, partition, begin=position))
        if part.end <= end <= position or part.begin >= end:
            state = part.state if part.begin < end else None
            parts.append(PartAsOf(partition=partition, state=state, origin="store"))
            continue
        part = replace(part, end=end)
        await check_covered(source, part)
        changes = await refold(source, part, rules=rules, set_aside=set_aside.get(partition), decode=decode)
        state = decode_state(changes.runs[0].body) if changes.runs else None
        parts.append(PartAsOf(partition=partition, state=state, origin="log"))
    return parts


def _unseen(run_id: str, partition: int, *, begin: int) -> RunRange:
    """A run that the store has not met: what there is of it stands behind the store's position."""
    return RunRange(partition=partition, run_id=run_id, row=None, state=None, letters=[], begin=begin, end=begin)


async def reached(store: Store, cut: Cut) -> bool:
    """Tell whether the store has folded everything before the cut, and nothing behind it."""
    positions = {status.partition: status.position for status in await store.partitions()}
    return all(positions.get(partition, 0) == end for partition, end in cut.items())


@asynccontextmanager
async def folded_to(
    source: LogSource,
    store: Store,
    rules: Rules,
    *,
    cut: Cut,
    workspace: Path,
    progress: Progress | None = None,
    decode: Decode = decode_lean,
) -> AsyncIterator[Store]:
    """A store of the time of the cut, folded from the log in a folder of ``workspace``, which is cleared afterwards.

    It begins where ``store`` began and heeds its notes. Raises StoreRefused where the store is of another log or fold,
    RefoldRefused where the log no longer has all that is to be folded.
    """
    owner = await check_fold(source, store, rules)
    ranges = await source.ranges(list(cut))
    firsts = {status.partition: status.first_offset for status in await store.partitions()}
    starts = {which: min(firsts.get(which, held.begin), cut[which]) for which, held in ranges.items()}
    for which, start in starts.items():
        if ranges[which].begin > start < cut[which]:
            raise RefoldRefused(
                f"partition {which}: offsets {start} to {min(ranges[which].begin, cut[which]) - 1} are gone from the log, and "
                "without them nobody can tell how things stood; an archive that has them answers (RUNFOLD_LOG)"
            )
    set_aside = set_aside_of(await store.notes())
    async with fresh_store(workspace, listed=True) as beside:
        await bind(beside, owner)
        shadow = Shadow(source, beside, rules=rules, decode=decode, set_aside=set_aside, progress=progress)
        await shadow.begin(starts)
        await shadow.advance(cut)
        yield beside
