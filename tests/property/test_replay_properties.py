"""Replay over random logs: with duplicates, disorder, second ends, corrections, wrong keys and broken bytes.

Every example has a log and a store in files of its own.
"""

from __future__ import annotations

import asyncio
from random import Random

from hypothesis import given, settings
from random_worlds import all_run_ids, few, messages, randoms, with_world
from replay_world import World, flipped

from runfold.fold.admit import run_of_key
from runfold.log.partitioner import key_hash
from runfold.log.port import Message
from runfold.replay.history import history
from runfold.replay.refold import outdated, refold, retry
from runfold.replay.run_range import every_letter, find_ranges
from runfold.replay.verify import verify
from runfold.store.port import StalePosition
from runfold.store.sqlite import SqliteStore
from runfold_schemas import RunCancelling, RunCompleted, RunModified, RunUsageCorrected
from runfold_schemas.codec import Codec
from runfold_schemas.lean import LEAN_EVENT_TYPES

LATER = (RunCancelling, RunCompleted, RunModified, RunUsageCorrected)


def with_run(told: list[Message]) -> list[Message]:
    """Those of them that belong to a run: letters of no run cannot be retried."""
    return [message for message in told if run_of_key(message.key) is not None]


def older_code(rng: Random):
    """A decoder that does not know some of the types yet."""
    unknown = rng.sample(LATER, rng.randrange(1, 4))
    return Codec(tuple(kind for kind in LEAN_EVENT_TYPES if kind not in unknown), upcasters=()).decode


@given(randoms)
@few
def test_a_refold_of_one_run_equals_live(rng: Random) -> None:
    """Each run, refolded from its own range alone, gives its row to the byte, and its letters."""

    async def claim(world: World) -> None:
        for run_id in await all_run_ids(world):
            for part in await find_ranges(world.source, world.store, run_id):
                changes = await refold(world.source, part, rules=world.rules)
                assert [row.body for row in changes.runs] == ([] if part.row is None else [part.row.body])
                assert changes.letters == part.letters

    asyncio.run(with_world(rng, claim))


@given(randoms)
@few
def test_retrying_every_run_changes_nothing(rng: Random) -> None:
    """With the code that folded them, retries leave the digest as it was."""

    async def claim(world: World) -> None:
        before = await world.digest()
        for run_id in await all_run_ids(world):
            await retry(world.source, world.store, world.rules, run_id)
        assert await world.digest() == before

    asyncio.run(with_world(rng, claim))


@given(randoms)
@few
def test_retry_after_the_code_learned_types_is_a_rebuild(rng: Random) -> None:
    """Once all runs with outdated letters are retried, in any order, the store is what a full rebuild gives."""

    async def claim(world: World) -> None:
        letters = [letter async for letter in every_letter(world.store)]
        runs = sorted({letter.run_id for letter in outdated(letters, rules=world.rules) if letter.run_id is not None})
        rng.shuffle(runs)
        for run_id in runs:
            await retry(world.source, world.store, world.rules, run_id)
        assert await world.digest() == await world.rebuilt()

    asyncio.run(with_world(rng, claim, told=with_run(messages(rng)), decode=older_code(rng)))


@given(randoms)
@few
def test_history_tells_every_record_once(rng: Random) -> None:
    """Over all runs, history tells each record whose key names one, with the outcomes that were counted."""

    async def claim(world: World) -> None:
        told = [
            entry
            for run_id in await all_run_ids(world)
            for entry in await history(world.source, world.store, world.rules, run_id)
        ]
        named = [
            (which, record.offset) for which in (0, 1) for record in await world.read(which) if run_of_key(record.key)
        ]
        assert sorted((entry.partition, entry.offset) for entry in told) == named
        for status in await world.store.partitions():
            applied = [entry for entry in told if (entry.partition, entry.outcome) == (status.partition, "applied")]
            assert len(applied) == status.tally.get("applied", 0)

    asyncio.run(with_world(rng, claim))


@given(randoms)
@few
def test_verify_finds_nothing_where_nothing_is_wrong(rng: Random) -> None:
    """Whatever came in, in whatever batches, the store is identical to its recomputation."""

    async def claim(world: World) -> None:
        found = await verify(world.source, world.store, world.rules, workspace=world.workspace)
        assert (found.identical, found.findings, found.superseded) == (True, [], [])

    asyncio.run(with_world(rng, claim))


@given(randoms)
@few
def test_older_codes_store_is_superseded_not_wrong(rng: Random) -> None:
    """What older code left as letters is no difference, and is told exactly where there is such a letter."""

    async def claim(world: World) -> None:
        found = await verify(world.source, world.store, world.rules, workspace=world.workspace)
        letters = [letter async for letter in every_letter(world.store)]
        left = {(letter.partition, letter.run_id) for letter in outdated(letters, rules=world.rules)}
        assert (found.identical, found.findings) == (True, [])
        assert {*found.superseded, *[(which, None) for which, run_id in left if run_id is None]} == left

    asyncio.run(with_world(rng, claim, decode=older_code(rng)))


@given(randoms)
@few
def test_any_one_fault_is_found(rng: Random) -> None:
    """A flipped bit, a token too many, a run too few or too many, a position moved: each is found and named."""

    async def claim(world: World) -> None:
        await world.publish(*[Message(b"later", b"broken")] * 2)  # room for a position that moved on
        spoiled = await spoil(world, rng)
        found = await verify(world.source, world.store, world.rules, workspace=world.workspace)
        assert found.identical is not spoiled
        assert bool(found.findings) is spoiled

    asyncio.run(with_world(rng, claim))


async def spoil(world: World, rng: Random) -> bool:
    """Do one wrong thing to a store; False where it has nothing to do that to."""
    snapshot = await world.store.snapshot()
    try:
        rows = [(str(row[0]), partition, row[-1]) for partition, row in snapshot.scan_runs()]
    finally:
        await snapshot.close()
    if not rows:
        return False
    run_id, partition, body = rng.choice(rows)
    assert isinstance(body, bytes)
    where = "where run_id = ? and partition = ?"
    faults = (
        (f"update run set body = ? {where}", flipped(body, rng.randrange(8 * len(body))), run_id, partition),
        (f"update run set flags = flags + 128 {where}", run_id, partition),
        (f"delete from run {where}", run_id, partition),
        (
            f"""insert into run select 10000, 'ghost', partition, thread_id, status, created_at, flags, dimension, minute,
                final_timestamp, fold, body from run {where}""",
            run_id,
            partition,
        ),
        ("update usage set total_tokens = total_tokens + 1",),
        ("update position set next = next - 1 where next > 0",),
        ("update position set next = next + 1 where partition = ?", key_hash(b"later") % 2),
    )
    return world.spoil(*rng.choice(faults)) > 0


@given(randoms)
@settings(few, max_examples=5)
def test_retries_and_verify_beside_a_living_service(rng: Random) -> None:
    """While records come in and are folded, retries lose nothing, and verify finds nothing wrong; nor is there at the end."""

    async def claim(world: World) -> None:
        done = asyncio.Event()
        beside = SqliteStore(world.kept)
        await beside.open()
        living = asyncio.create_task(live(world, rng, done))
        for run_id in await all_run_ids(world):
            await retry(world.source, beside, world.rules, run_id)
            found = await verify(world.source, beside, world.rules, workspace=world.workspace)
            assert found.identical
        done.set()
        await living
        await beside.close()
        assert await world.digest() == await world.rebuilt()

    asyncio.run(with_world(rng, claim))


async def live(world: World, rng: Random, done: asyncio.Event) -> None:
    """Publish and fold until done; who meets StalePosition begins again from where the store stands."""
    while not done.is_set():
        await world.publish(*messages(rng))
        try:
            await world.serve(most=3)
        except StalePosition:
            continue
    await world.serve()
