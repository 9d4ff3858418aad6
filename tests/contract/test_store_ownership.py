"""What every store has to do, whichever it is: whose it is, and who may write to it."""

from __future__ import annotations

from typing import Any

import pytest
from store_contract import FOLD, LOG, StoreFactory, moves

from runfold.fold.changes import Changes
from runfold.store.port import Lease, Store, StoreRefused


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
