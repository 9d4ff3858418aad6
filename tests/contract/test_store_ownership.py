"""What every store has to do, whichever it is: whose it is, and who may write to it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from store_contract import FOLD, LOG, StoreFactory, moves

from runfold.fold.changes import Changes
from runfold.store.port import (
    Growth,
    Lease,
    LostRange,
    Note,
    PartitionsGrown,
    StalePosition,
    Store,
    StoreRefused,
)


async def test_a_fresh_store_belongs_to_nobody(store_factory: StoreFactory) -> None:
    """Before it is bound, a store names no log and no fold."""
    identity = await (await store_factory()).identity()
    assert (identity.cluster_id, identity.topic, identity.fold_version, identity.settings_hash) == (None,) * 4


async def test_a_bound_store_names_its_log_and_fold(store: Store) -> None:
    """Binding is remembered, and binding again the same way is welcome."""
    await store.bind(**LOG, **FOLD)
    identity = await store.identity()
    assert (identity.cluster_id, identity.topic, identity.partitions) == ("log-1", "events", 4)
    assert (identity.fold_version, identity.settings_hash) == (3, "abc")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cluster_id": "log-2"}, ["log-1", "log-2", "RUNFOLD_LOG", "RUNFOLD_STORE"]),
        ({"topic": "others"}, ["events", "others", "RUNFOLD_LOG", "RUNFOLD_STORE"]),
        ({"partitions": 5}, ["from 4 to 5 partitions", "accept-growth", "build a new store"]),
        ({"partitions": 3}, ["4 partitions", "has 3", "RUNFOLD_LOG", "build a new store"]),
        ({"fold_version": 4}, ["version 3", "4", "build a new store"]),
        ({"settings_hash": "xyz"}, ["abc", "xyz", "build a new store"]),
    ],
)
async def test_a_store_of_another_log_or_fold_is_refused(
    store: Store, change: dict[str, Any], words: list[str]
) -> None:
    """The refusal names both sides and the way out."""
    with pytest.raises(StoreRefused) as refusal:
        await store.bind(**{**LOG, **FOLD, **change})
    assert [word for word in words if word not in str(refusal.value)] == []


async def test_a_compatible_fold_takes_over(store: Store) -> None:
    """A version that is declared compatible may go on with the store, which then is of the new version."""
    await store.bind(**LOG, fold_version=4, compatible=(3,), settings_hash="abc")
    assert (await store.identity()).fold_version == 4


async def test_a_new_partition_begins_where_the_log_begins(store: Store) -> None:
    """Without a position of its own, a partition is read from the log's begin."""
    lease = (await store.claim("me", {2: 17}, lease=60))[2]
    assert (lease.position, lease.first_offset, lease.last_offset, lease.last_hash) == (17, 17, None, None)


async def test_a_held_partition_is_not_given_to_another(store: Store, leases: dict[int, Lease]) -> None:
    """While a lease runs, others get what is free and nothing else."""
    assert set(await store.claim("you", {0: 0, 1: 0, 2: 0}, lease=60)) == {2}


async def test_an_expired_lease_is_taken_over_in_a_new_epoch(store: Store) -> None:
    """Once its lease has run out, a partition goes to whoever asks."""
    mine = (await store.claim("me", {0: 0}, lease=-1))[0]
    assert (await store.claim("you", {0: 0}, lease=60))[0].epoch == mine.epoch + 1


async def test_claiming_again_raises_the_epoch(store: Store, leases: dict[int, Lease]) -> None:
    """An owner who claims once more gets a new epoch: what it sent before can no longer be written."""
    again = await store.claim("me", {0: 0}, lease=60)
    assert again[0].epoch == leases[0].epoch + 1


async def test_released_partitions_are_free_at_once(store: Store, leases: dict[int, Lease]) -> None:
    """Whoever lets go makes nobody wait."""
    await store.release("me", leases)
    assert set(await store.claim("you", {0: 0, 1: 0}, lease=60)) == {0, 1}


async def test_nobody_releases_what_another_took_over(store: Store) -> None:
    """A late release by a former owner changes nothing."""
    former = await store.claim("me", {0: 0}, lease=-1)
    await store.claim("you", {0: 0}, lease=60)
    await store.release("me", former)
    assert await store.claim("me", {0: 0}, lease=60) == {}


async def test_renewing_tells_what_is_still_owned(store: Store) -> None:
    """A partition that was taken over is missing from the answer, and stays with its new owner."""
    mine = await store.claim("me", {0: 0, 1: 0}, lease=-1)
    await store.claim("you", {0: 0}, lease=60)
    assert await store.renew("me", mine, lease=60) == {1}
    assert await store.claim("you", {1: 0}, lease=60) == {}


async def test_a_lease_names_the_last_record_folded(store: Store, leases: dict[int, Lease]) -> None:
    """Whoever takes the partition can ask the log for that record again."""
    await store.apply(Changes(positions=moves(end=10)), leases)
    lease = (await store.claim("me", {0: 99}, lease=60))[0]
    assert (lease.position, lease.first_offset, lease.last_offset, lease.last_hash) == (10, 0, 9, b"hash")


async def test_the_serve_lock_can_be_taken_and_given_back(store: Store) -> None:
    """One process may serve, stop and serve again."""
    with store.serve_lock():
        pass
    with store.serve_lock():
        pass


async def test_who_says_so_is_alive(store: Store) -> None:
    """A worker counts as present from its first renewal on, with partitions or without, until its time is over."""
    await store.renew("with", {}, lease=60)
    await store.renew("late", {}, lease=-1)
    assert (await store.crew()).alive == {"with"}
    (worker,) = await store.workers()
    assert (worker.owner, worker.alive_until - worker.seen_at) == ("with", 60_000)
    assert worker.since <= worker.seen_at


async def test_a_silent_worker_is_known_while_it_has_partitions(store: Store) -> None:
    """Who fell silent stays on the list until others have what was theirs."""
    mine = await store.claim("me", {0: 0}, lease=-1)
    await store.renew("me", mine, lease=-1)
    assert [worker.owner for worker in await store.workers()] == ["me"]
    yours = await store.claim("you", {0: 0}, lease=60)
    await store.renew("you", yours, lease=60)
    assert [worker.owner for worker in await store.workers()] == ["you"]


async def test_the_crew_knows_who_holds_what(store: Store, leases: dict[int, Lease]) -> None:
    """Seats name the owners whose leases run, and every partition's position."""
    await store.apply(Changes(positions=moves(end=10)), leases)
    await store.claim("late", {2: 5}, lease=-1)
    seats = (await store.crew()).seats
    assert {which: (seat.owner, seat.position) for which, seat in seats.items()} == {
        0: ("me", 10),
        1: ("me", 0),
        2: (None, 5),
    }


async def test_leaving_lets_go_of_everything(store: Store, leases: dict[int, Lease]) -> None:
    """Who leaves has no partition any more, whatever epochs it knew, and is no longer present; it was not taken over."""
    await store.renew("me", leases, lease=60)
    await store.claim("me", {0: 0}, lease=60)
    await store.leave("me")
    assert await store.workers() == []
    taken = await store.claim("you", {0: 0, 1: 0}, lease=60)
    assert {lease.taken_from for lease in taken.values()} == {None}


async def test_the_dead_are_not_waited_for(store: Store, leases: dict[int, Lease]) -> None:
    """Whose death is known has no lease any more; whoever claims next takes over, and only what was theirs."""
    other = await store.claim("other", {2: 0}, lease=60)
    await store.renew("me", leases, lease=60)
    await store.bury(["me", "nobody"])
    assert (await store.crew()).alive == set()
    taken = await store.claim("you", {0: 0, 1: 0, 2: 0}, lease=60)
    assert {which: lease.taken_from for which, lease in taken.items()} == {0: "me", 1: "me"}
    assert await store.renew("other", other, lease=60) == {2}


async def test_takeovers_are_counted(store: Store) -> None:
    """Each claim from an owner that had not let go counts, and in a row those at one position; a release counts nothing."""
    await store.claim("a", {0: 0}, lease=-1)
    await store.claim("b", {0: 0}, lease=-1)
    third = await store.claim("c", {0: 0}, lease=60)
    assert (third[0].history.takeovers, third[0].history.stalled) == (2, 2)
    await store.release("c", third)
    history = (await store.claim("d", {0: 0}, lease=60))[0].history
    assert (history.takeovers, history.stalled) == (2, 2)
    assert (await store.partitions())[0].history == history


async def test_progress_ends_a_row_of_takeovers(store: Store) -> None:
    """A takeover after somebody got on is the first of a new row."""
    await store.claim("a", {0: 0}, lease=-1)
    second = await store.claim("b", {0: 0}, lease=-1)
    await store.apply(Changes(positions=moves(end=10)), second)
    third = (await store.claim("c", {0: 0}, lease=60))[0].history
    assert (third.takeovers, third.stalled, third.claimed_at) == (2, 0, 10)


async def test_a_record_on_trial_at_two_deaths_is_told(store: Store) -> None:
    """What was in hand alone when its process ended is the suspect of the next claim, and each such death is counted."""
    for deaths, owner in enumerate(("a", "b", "c")):
        lease = (await store.claim(owner, {0: 0}, lease=-1))[0]
        assert lease.history.deaths == deaths
        await store.begin_trial(lease, 3)  # behind the position: offsets between them hold no record
    assert lease.history.suspect == 3


async def test_a_trial_that_was_passed_makes_no_suspect(store: Store) -> None:
    """A record that was committed is none; nor is one whose owner let go in order."""
    lease = await store.claim("a", {0: 0}, lease=-1)
    await store.begin_trial(lease[0], 0)
    await store.apply(Changes(positions=moves(end=1)), lease)
    taken = await store.claim("b", {0: 0}, lease=60)
    assert (taken[0].history.suspect, taken[0].history.deaths) == (None, 0)
    await store.begin_trial(taken[0], 1)
    await store.release("b", taken)
    assert (await store.claim("c", {0: 0}, lease=60))[0].history.deaths == 0


async def test_a_trial_of_a_former_owner_is_refused(store: Store) -> None:
    """Who no longer holds the partition marks nothing."""
    mine = await store.claim("me", {0: 0}, lease=-1)
    await store.claim("you", {0: 0}, lease=60)
    with pytest.raises(StalePosition):
        await store.begin_trial(mine[0], 0)


async def test_growth_is_accepted_once(store: Store) -> None:
    """After it was accepted the store belongs to the grown log; twice, or from another number, it is refused."""
    growth = Growth(before=4, partitions=6, open_runs=7, accepted_at=1)
    grown = {**LOG, "partitions": 6}
    with pytest.raises(PartitionsGrown):
        await store.bind(**grown, **FOLD)
    await store.accept_growth(growth)
    await store.bind(**grown, **FOLD)
    assert await store.growths() == [growth]
    with pytest.raises(StoreRefused):
        await store.accept_growth(growth)


async def test_a_lost_range_is_noted_until_it_is_accepted(store: Store, leases: dict[int, Lease]) -> None:
    """It grows as the log loses more; accepted, it raises the epoch and moves the position, in one."""
    lost = LostRange(partition=0, begin=0, end=10, noticed_at=1)
    await store.note_loss(lost)
    await store.note_loss(replace(lost, end=20, noticed_at=2))
    assert await store.lost_ranges() == [replace(lost, end=20)]
    await store.accept_loss(replace(lost, end=30))
    (kept,) = await store.lost_ranges()
    assert (kept.begin, kept.end, kept.noticed_at) == (0, 30, 1)
    assert kept.accepted_at is not None
    with pytest.raises(StalePosition):
        await store.apply(Changes(positions=moves(end=10)), leases)
    assert (await store.claim("me", {0: 0}, lease=60))[0].position == 30


async def test_a_range_that_was_passed_is_not_accepted(store: Store, leases: dict[int, Lease]) -> None:
    """Where the partition no longer stands at the range's begin, nothing is written."""
    await store.apply(Changes(positions=moves(end=10)), leases)
    with pytest.raises(StalePosition):
        await store.accept_loss(LostRange(partition=0, begin=0, end=20, noticed_at=1))
    assert await store.lost_ranges() == []
    assert (await store.partitions())[0].position == 10


async def test_a_note_can_be_taken_back(store: Store) -> None:
    """Only the note of that place and kind goes."""
    kept = Note(partition=0, offset=1, kind="discard", reason="r", noted_at=1)
    gone = replace(kept, kind="set_aside")
    await store.add_note(kept)
    await store.add_note(gone)
    await store.remove_note(gone)
    assert await store.notes() == [kept]
