"""As-of over random logs: whatever was published, at whatever cut, the answer is that of a log that ends there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

from hypothesis import given
from random_worlds import all_run_ids, few, messages, randoms, with_world
from replay_world import World

from runfold.fold.admit import run_of_key
from runfold.fold.batch import PartitionFold
from runfold.fold.changes import Changes
from runfold.fold.state import encode_state
from runfold.replay.as_of import folded_to, run_as_of
from runfold.replay.cut import Cut, cut_behind
from runfold.replay.usage_as_of import Period, usage_as_of
from runfold.store.usage_query import UsageRow


async def any_cut(world: World, rng: Random) -> Cut:
    """Behind some record of each partition, or of some; before everything now and then."""
    ranges = await world.source.ranges(range(world.partitions))
    cut = await cut_behind(
        world.source,
        {which: rng.randrange(held.end) for which, held in ranges.items() if held.end and rng.random() < 0.8},
    )
    return {which: 0 if rng.random() < 0.1 else end for which, end in cut.items()}


async def folded_at(world: World, cut: Cut) -> tuple[dict[tuple[int, str], bytes], dict]:
    """Rows and usage by a plain fold of the log up to the cut."""
    rows, usage = {}, {}
    for partition, end in cut.items():
        changes = Changes()
        records = [record for record in await world.read(partition) if record.offset < end]
        PartitionFold(partition, rules=world.rules).fold(records, next_position=end, expected=0, changes=changes)
        rows |= {(partition, row.run_id): row.body for row in changes.runs}
        for bucket, sums in changes.usage.items():
            usage[bucket] = tuple(map(sum, zip(sums, usage.get(bucket, [0] * len(sums)), strict=True)))
    return rows, {bucket: sums for bucket, sums in usage.items() if any(sums)}


@given(randoms)
@few
def test_a_run_as_of_a_cut_is_its_fold_up_to_there(rng: Random) -> None:
    """Every run, at several cuts, is to the byte what a log that ends at the cut gives, wherever the answer came from."""

    async def claim(world: World) -> None:
        for _ in range(4):
            cut = await any_cut(world, rng)
            rows, _ = await folded_at(world, cut)
            for run_id in await all_run_ids(world):
                parts = await run_as_of(world.source, world.store, world.rules, run_id=run_id, cut=cut)
                known = {(part.partition, run_id): encode_state(part.state) for part in parts if part.state is not None}
                expected = {key: body for key, body in rows.items() if key[1] == run_id}
                assert known == expected

    asyncio.run(with_world(rng, claim))


@given(randoms)
@few
def test_a_run_is_told_of_that_the_store_has_not_met(rng: Random) -> None:
    """What is published but not folded yet counts too: the log tells what the store cannot."""

    async def claim(world: World) -> None:
        await world.publish(*messages(rng))
        cut = await any_cut(world, rng)
        rows, _ = await folded_at(world, cut)
        names = {run_of_key(record.key) for which in range(2) for record in await world.read(which)} - {None}
        for run_id in sorted(filter(None, names)):
            parts = await run_as_of(world.source, world.store, world.rules, run_id=run_id, cut=cut)
            known = {(part.partition, run_id): encode_state(part.state) for part in parts if part.state is not None}
            assert known == {key: body for key, body in rows.items() if key[1] == run_id}

    asyncio.run(with_world(rng, claim))


@given(randoms)
@few
def test_usage_as_known_at_a_cut_is_that_of_a_log_that_ends_there(rng: Random) -> None:
    """From the store and from the log alike; and with what has changed since it is the usage of now."""

    async def claim(world: World) -> None:
        now = await world.store.usage()
        for _ in range(4):
            cut = await any_cut(world, rng)
            _, expected = await folded_at(world, cut)
            for from_log in (False, True):
                found = await usage_as_of(
                    world.source, world.store, world.rules, cut=cut, workspace=world.workspace, from_log=from_log
                )
                assert found.origin == ("log" if from_log else "store")
                assert {row.bucket: row.sums for row in found.rows} == expected
                assert found.changes is not None
                assert _with(found.rows, found.changes) == {row.bucket: row.sums for row in now}

    asyncio.run(with_world(rng, claim))


@given(randoms)
@few
def test_periods_add_up(rng: Random) -> None:
    """What was known of two halves of time is together what was known of all of it."""

    async def claim(world: World) -> None:
        cut = await any_cut(world, rng)
        whole = await _known(world, cut, Period())
        minutes = [row.bucket.minute for row in await world.store.usage()] or [0]
        middle = rng.choice(minutes)
        halves = await _known(world, cut, Period(end=middle)) + await _known(world, cut, Period(begin=middle))
        assert sorted(halves, key=lambda row: row.bucket) == whole

    asyncio.run(with_world(rng, claim))


@given(randoms)
@few
def test_a_list_as_of_a_cut_has_the_runs_of_then(rng: Random) -> None:
    """The store that is folded up to the cut holds the very rows, and nothing is left in the workspace."""

    async def claim(world: World) -> None:
        cut = await any_cut(world, rng)
        expected, _ = await folded_at(world, cut)
        async with folded_to(world.source, world.store, world.rules, cut=cut, workspace=world.workspace) as then:
            snapshot = await then.snapshot()
            assert {(partition, row[0]): row[-1] for partition, row in snapshot.scan_runs()} == expected
            await snapshot.close()
        assert nothing_in(world.workspace)

    asyncio.run(with_world(rng, claim))


def nothing_in(folder: Path) -> bool:
    return not any(folder.iterdir())


async def _known(world: World, cut: Cut, period: Period) -> list[UsageRow]:
    found = await usage_as_of(world.source, world.store, world.rules, cut=cut, period=period, workspace=world.workspace)
    return found.rows


def _with(rows, changes):
    sums = {row.bucket: list(row.sums) for row in rows}
    for change in changes:
        before = sums.setdefault(change.bucket, [0] * len(change.sums))
        before[:] = map(sum, zip(before, change.sums, strict=True))
    return {bucket: tuple(told) for bucket, told in sums.items() if any(told)}
