"""What every store has to do, whichever it is: batches and the door, written whole or not at all."""

from __future__ import annotations

import asyncio

import pytest
from store_contract import NAMELESS, StoreFactory, bucket, door, dumped, entry, ids, letter, moves, run, sums

from runfold.fold.changes import Changes
from runfold.fold.usage import SUMS, Dimensions
from runfold.store.digest import digest
from runfold.store.port import DoorChange, Lease, Note, StalePosition, Store
from runfold.store.usage_query import UsageRow


async def test_apply_returns_the_handles_of_new_rows(store: Store, leases: dict[int, Lease]) -> None:
    """The handles of new rows are those that load gives; old rows are not repeated."""
    first = await store.apply(Changes(runs=[run("run_a")], positions=moves()), leases)
    changed = [run("run_a", handle=first[0, "run_a"], body=b"2"), run("run_b")]
    second = await store.apply(Changes(runs=changed, positions=moves(begin=10, end=11)), leases)
    rows = await store.load(0, ["run_a", "run_b"])
    assert {(0, name): row.handle for name, row in rows.items()} == first | second
    assert {name: row.body for name, row in rows.items()} == {"run_a": b"2", "run_b": b"body"}


@pytest.mark.parametrize("case", ["position", "epoch", "unheld", "one of two", "handle"])
async def test_a_stale_writer_writes_nothing(store: Store, leases: dict[int, Lease], case: str) -> None:
    """Whatever of it is stale, a batch that is refused leaves the store as it was."""
    await store.apply(Changes(runs=[run("run_a")], positions=moves()), leases)
    before = await dumped(store)
    batch = Changes(
        runs=[run("run_b"), run("run_c", partition=1)],
        letters=[letter(11)],
        usage={bucket(): sums(1)},
        positions=moves(begin=10, end=20) | moves(1),
        tally={0: {"applied": 1}},
    )
    if case == "position":
        batch.positions = moves(begin=9, end=20) | moves(1)
    elif case == "epoch":
        await store.claim("me", {1: 0}, lease=60)
    elif case == "unheld":
        leases = {0: leases[0]}
    elif case == "one of two":
        batch.positions = moves(begin=10, end=20) | moves(1, begin=5)
    else:
        batch.runs.append(run("run_a", handle=12345))
    with pytest.raises(StalePosition):
        await store.apply(batch, leases)
    assert await dumped(store) == before
    assert all(status.tally == {} for status in await store.partitions())


async def test_rows_need_a_position_that_moves(store: Store, leases: dict[int, Lease]) -> None:
    """A row of a partition without a compare would be written by anybody: it is refused as a mistake."""
    with pytest.raises(ValueError, match=r"\[1\]"):
        await store.apply(Changes(runs=[run("run_a", partition=1)], positions=moves(0)), leases)


async def test_a_store_goes_on_after_a_refused_batch(store: Store, leases: dict[int, Lease]) -> None:
    """After a failure the same store takes the next batch, new dimensions and all."""
    other = run("run_a", dimensions=Dimensions("o3"))
    with pytest.raises(StalePosition):
        await store.apply(Changes(runs=[other], positions=moves(begin=5)), leases)
    await store.apply(Changes(runs=[other], positions=moves()), leases)
    assert await ids(store, model="o3") == ["run_a"]


async def test_usage_adds_up_by_bucket(store: Store, leases: dict[int, Lease]) -> None:
    """Differences are added; minutes are cut half open; the order is that of the buckets."""
    early, late = bucket(6, NAMELESS), bucket(7)
    await store.apply(Changes(usage={late: sums(2), early: sums(1)}, positions=moves()), leases)
    await store.apply(Changes(usage={late: sums(3)}, positions=moves(begin=10, end=11)), leases)
    both = [UsageRow(bucket=early, sums=tuple(sums(1))), UsageRow(bucket=late, sums=tuple(sums(5)))]
    assert await store.usage() == both
    assert await store.usage(begin=7, end=8) == both[1:]
    assert await store.usage(end=7) == both[:1]


async def test_sums_do_not_end_at_64_bits(store: Store, leases: dict[int, Lease]) -> None:
    """A thousand runs may claim 2**53 tokens each, in one batch or in many, and be taken back again."""

    def claimed(times: int) -> list[int]:
        return [times * (2**63 if name.endswith("tokens") else 1) for name in SUMS]

    for begin in range(3):
        await store.apply(Changes(usage={bucket(): claimed(1)}, positions=moves(begin=begin, end=begin + 1)), leases)
    assert [row.sums for row in await store.usage()] == [tuple(claimed(3))]
    view = await store.snapshot()
    assert (await digest(view)).usage
    await view.close()
    await store.apply(Changes(usage={bucket(): claimed(-3)}, positions=moves(begin=3, end=4)), leases)
    assert await store.usage() == []


async def test_emptied_buckets_are_not_shown(store: Store, leases: dict[int, Lease]) -> None:
    """A bucket whose runs have all moved elsewhere is as if it had never been."""
    before = await dumped(store)
    await store.apply(Changes(usage={bucket(): sums(2)}, positions=moves(end=1)), leases)
    await store.apply(Changes(usage={bucket(): sums(-2)}, positions=moves(begin=1, end=0)), leases)
    assert await store.usage() == []
    assert await dumped(store) == before


async def test_tallies_add_up(store: Store, leases: dict[int, Lease]) -> None:
    """A partition's tally counts records by outcome since the store began."""
    await store.apply(Changes(tally={0: {"applied": 5, "late": 1}}, positions=moves()), leases)
    await store.apply(Changes(tally={0: {"applied": 2}}, positions=moves(begin=10, end=12)), leases)
    status = (await store.partitions())[0]
    assert (status.position, status.tally) == (12, {"applied": 7, "late": 1})
    assert status.owner == "me"
    assert status.committed_at is not None


async def test_notes_are_kept_by_place(store: Store) -> None:
    """A note written again counts as it was written last."""
    note = Note(partition=1, offset=5, kind="discard", reason="spam", noted_at=1)
    again = Note(partition=1, offset=5, kind="discard", reason="really spam", noted_at=2)
    earlier = Note(partition=0, offset=9, kind="set_aside", reason="kills", noted_at=3)
    for each in (note, again, earlier):
        await store.add_note(each)
    assert await store.notes() == [earlier, again]


async def test_the_door_replaces_a_run_whole(store: Store, leases: dict[int, Lease]) -> None:
    """Row, letters and journal of the run are replaced, usage moves, the handle stays; nothing else is touched."""
    twin = {"runs": [run("run_a", partition=1)], "letters": [letter(2), letter(3, run_id="run_b")]}
    await store.apply(
        Changes(
            runs=[run("run_a"), run("run_b"), *twin["runs"]],
            letters=[letter(1), letter(2, partition=1), *twin["letters"]],
            journal=[entry(1), entry(1), entry(2, run_id="run_b")],
            usage={bucket(): sums(1)},
            positions=moves(0) | moves(1),
            tally={0: {"applied": 3}},
        ),
        leases,
    )
    handle = (await store.load(0, ["run_a"]))["run_a"].handle
    await store.write_through_door(
        door(
            b"body",
            1,
            2,
            runs=[run("run_a", body=b"new", thread_id="thread_9", dimensions=Dimensions("o3"))],
            letters=[letter(5)],
            journal=[entry(5, runs=2)],
            usage={bucket(): sums(1)},
            tally={0: {"applied": 3}},
            positions=moves(begin=3, end=7),
        )
    )
    row = (await store.load(0, ["run_a"]))["run_a"]
    assert (row.handle, row.body) == (handle, b"new")
    assert await ids(store, thread_id="thread_9", model="o3") == ["run_a"]
    places = [(found.partition, found.offset) for found in await store.letters()]
    assert places == [(0, 3), (0, 5), (1, 2)]
    snapshot = await store.snapshot()
    assert [found[:3] for found in snapshot.journal(0)] == [(2, 0, "run_b"), (5, 0, "run_a")]
    await snapshot.close()
    assert [found.sums for found in await store.usage()] == [tuple(sums(2))]
    status = (await store.partitions())[0]
    assert (status.position, status.tally) == (10, {"applied": 3})


async def test_the_owner_is_stale_after_the_door(store: Store, leases: dict[int, Lease]) -> None:
    """The epoch is raised: the owner's next batch is refused, and works again once it has claimed."""
    await store.write_through_door(door(None, runs=[run("run_a")]))
    batch = Changes(runs=[run("run_b")], positions=moves())
    with pytest.raises(StalePosition):
        await store.apply(batch, leases)
    await store.apply(batch, await store.claim("me", {0: 0}, lease=60))
    assert await ids(store) == ["run_b", "run_a"]


async def test_the_door_can_take_a_run_away(store: Store, leases: dict[int, Lease]) -> None:
    """A refold that leaves no row deletes it, from every list."""
    rows = [run(f"run_{number}") for number in range(20)]
    await store.apply(Changes(runs=[run("run_a"), *rows], positions=moves()), leases)
    await store.write_through_door(door(b"body"))
    assert await store.find_run("run_a") == []
    assert len(await ids(store, thread_id="thread_1", limit=50)) == 20


@pytest.mark.parametrize("change", [door(None), door(b"other"), door(b"body"), door(b"body", 1, 2)])
async def test_the_door_stays_shut_when_the_run_has_changed(
    store: Store, leases: dict[int, Lease], change: DoorChange
) -> None:
    """Where row or letters are not those that were read, nothing is written and no epoch is raised."""
    batch = Changes(runs=[run("run_a")], letters=[letter(1)], positions=moves())
    await store.apply(batch, leases)
    before = await dumped(store)
    change.changes.usage = {bucket(): sums(1)}
    with pytest.raises(StalePosition):
        await store.write_through_door(change)
    assert await dumped(store) == before
    await store.apply(Changes(positions=moves(begin=10, end=11)), leases)


async def test_the_door_needs_a_partition_that_exists(store: Store) -> None:
    """A partition that was never claimed has nothing to be written to."""
    with pytest.raises(StalePosition):
        await store.write_through_door(door(None, runs=[run("run_a")]))


async def test_what_was_committed_is_there_after_opening_again(
    store_factory: StoreFactory, store: Store, leases: dict[int, Lease]
) -> None:
    """A closed store, opened again, holds all that it held."""
    runs = [run(f"run_{number}", created_at=number) for number in range(30)]
    batch = Changes(runs=runs, letters=[letter(1)], journal=[entry(1)], usage={bucket(): sums(1)}, positions=moves())
    await store.apply(batch, leases)
    before = await dumped(store)
    await store.close()
    again = await store_factory()
    assert await dumped(again) == before
    assert len(await again.load(0, [row.run_id for row in runs])) == 30


async def test_a_cancelled_batch_is_written_whole_or_not_at_all(store: Store, leases: dict[int, Lease]) -> None:
    """Cancelling an apply at any moment leaves a store that works, at a position that tells what happened."""
    position = 0
    for turns in range(6):
        rows = [run(f"run_{turns}_{number}") for number in range(50)]
        batch = Changes(runs=rows, positions=moves(begin=position, end=position + 1))
        applying = asyncio.ensure_future(store.apply(batch, leases))
        for _ in range(turns):
            await asyncio.sleep(0)
        applying.cancel()
        await asyncio.gather(applying, return_exceptions=True)
        leases |= await store.claim("me", {0: 0}, lease=60)
        written = leases[0].position - position
        assert len(await store.load(0, [row.run_id for row in rows])) == 50 * written
        position = leases[0].position
