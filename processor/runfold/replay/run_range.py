"""Where the records of one run lie in the log, and whether the log at hand still has them.

A run's range goes, in each partition that holds a part of it, from the least to the greatest offset of its row *and* its
letters. What may change here is how the range is found; that it is complete is what refolding stands on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from runfold.fold.changes import Letter
from runfold.fold.projection import project
from runfold.fold.rules import COMPATIBLE, FOLD_VERSION, Rules
from runfold.fold.state import RunState, decode_state
from runfold.log.port import LogSource
from runfold.store.identity import check_owner
from runfold.store.port import REBUILD, Note, Store, StoredRun, StoreIdentity, StoreRefused
from runfold_schemas.codec import UNREADABLE


class RefoldRefused(StoreRefused):
    """A run cannot be refolded from the log; the message says why, and what can be done instead."""


class RunRange(Struct, frozen=True, kw_only=True):
    """A run's part in one partition: ``row`` and ``state`` are None where it has letters only, ``end`` is exclusive."""

    partition: int
    run_id: str
    row: StoredRun | None
    state: RunState | None
    letters: list[Letter]
    begin: int
    end: int


async def own_identity(source: LogSource, rules: Rules) -> StoreIdentity:
    """What a store written by this code from this log would say of itself."""
    log = await source.identity()
    return StoreIdentity(
        schema_version=0,
        cluster_id=log.cluster_id,
        topic=log.topic,
        partitions=await source.partitions(),
        fold_version=FOLD_VERSION,
        settings_hash=rules.settings_hash,
    )


async def bind(store: Store, owner: StoreIdentity) -> None:
    """Tie a fresh store to the log and fold of ``owner``, or check that it is theirs. Raises StoreRefused otherwise."""
    assert owner.cluster_id is not None
    assert owner.topic is not None
    assert owner.partitions is not None
    assert owner.fold_version is not None
    assert owner.settings_hash is not None
    await store.bind(
        cluster_id=owner.cluster_id,
        topic=owner.topic,
        partitions=owner.partitions,
        fold_version=owner.fold_version,
        compatible=COMPATIBLE,
        settings_hash=owner.settings_hash,
    )


async def check_fold(source: LogSource, store: Store, rules: Rules) -> StoreIdentity:
    """Return this code's identity where the store is of this log and this fold. Raises StoreRefused otherwise."""
    owner = await own_identity(source, rules)
    check_owner(await store.identity(), owner, compatible=COMPATIBLE)
    return owner


async def check_log(source: LogSource, store: Store, rules: Rules) -> None:
    """Raise StoreRefused where the store is of another log; any fold will do, for those who only look."""
    kept = await store.identity()
    owner = await own_identity(source, rules)
    check_owner(
        kept, replace(owner, fold_version=kept.fold_version, settings_hash=kept.settings_hash), compatible=COMPATIBLE
    )


async def find_ranges(source: LogSource, store: Store, run_id: str) -> list[RunRange]:
    """As :func:`known_ranges`, all of them in the log. Raises RefoldRefused also where it lacks a part of one."""
    found = await known_ranges(store, run_id)
    for part in found:
        await check_covered(source, part)
    return found


async def known_ranges(store: Store, run_id: str) -> list[RunRange]:
    """The run's ranges by partition, below the store's positions; empty where the store knows nothing of the run.

    Raises RefoldRefused where a row cannot be read.
    """
    rows = {row.partition: row for row in await store.find_run(run_id)}
    letters: dict[int, list[Letter]] = {}
    async for letter in every_letter(store, run_id=run_id):
        letters.setdefault(letter.partition, []).append(letter)
    positions = {status.partition: status.position for status in await store.partitions()}
    return [
        _range_of(run_id, partition, row=rows.get(partition), letters=letters.get(partition, []), positions=positions)
        for partition in sorted(rows.keys() | letters.keys())
    ]


async def every_letter(store: Store, *, run_id: str | None = None) -> AsyncIterator[Letter]:
    """All dead letters (of one run, if given), page by page, ordered by partition and offset."""
    after: tuple[int, int] | None = None
    while page := await store.letters(run_id=run_id, after=after, limit=1_000):
        for letter in page:
            yield letter
        after = (page[-1].partition, page[-1].offset)


def set_aside_of(notes: list[Note]) -> dict[int, dict[int, str]]:
    """Per partition the offsets that people set aside, and why: the one kind of note that the fold obeys."""
    found: dict[int, dict[int, str]] = {}
    for note in notes:
        if note.kind == "set_aside":
            found.setdefault(note.partition, {})[note.offset] = note.reason
    return found


def _range_of(
    run_id: str, partition: int, *, row: StoredRun | None, letters: list[Letter], positions: Mapping[int, int]
) -> RunRange:
    state = None if row is None else _state_of(row)
    offsets = [letter.offset for letter in letters]
    if state is not None:
        offsets += [state.first_offset, state.last_offset]
    return RunRange(
        partition=partition,
        run_id=run_id,
        row=row,
        state=state,
        letters=letters,
        begin=min(offsets),
        end=min(max(offsets) + 1, positions[partition]),
    )


def _state_of(row: StoredRun) -> RunState:
    try:
        state = decode_state(row.body)
        project(state)  # what is encoded within, too
    except UNREADABLE as error:
        raise RefoldRefused(
            f"the row of run {row.run_id} in partition {row.partition} is damaged ({error}): what it had added to usage "
            f"cannot be told any more; {REBUILD}"
        ) from error
    return state


async def check_covered(source: LogSource, part: RunRange) -> None:
    """Raise RefoldRefused where the log lacks a part of the range."""
    held = (await source.ranges([part.partition]))[part.partition]
    if held.begin > part.begin or held.end < part.end:
        raise RefoldRefused(
            f"run {part.run_id} has its records at offsets {part.begin} to {part.end - 1} of partition {part.partition}, "
            f"and the log has {held.begin} to {held.end - 1}: without all of them the run cannot be folded again"
        )
