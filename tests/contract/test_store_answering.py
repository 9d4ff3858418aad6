"""What every store does for those who ask over HTTP: lists either way and between places, projects apart, keys, counts."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from store_contract import GPT, StoreFactory, bucket, door, ids, moves, run, sums

from runfold.fold.changes import Changes
from runfold.fold.outcome import Flag
from runfold.fold.usage import SUMS
from runfold.store import postgres_reads, sqlite_lists
from runfold.store.port import ApiKey, Lease, RunFilter, Store
from runfold_schemas import RunStatus

OTHERS = GPT._replace(project_id="proj_2")
NUL = GPT._replace(project_id="a\x00\x01b")


@pytest.mark.parametrize("wanted", [{}, {"thread_id": "thread_1"}, {"status": RunStatus.QUEUED}])
async def test_pages_go_either_way(store: Store, leases: dict[int, Lease], wanted: dict[str, Any]) -> None:
    """Page by page, oldest first, the list is that of newest first read backwards, also within one second."""
    rows = [run(f"run_{number}", created_at=number // 7) for number in range(40)]
    await store.apply(Changes(runs=rows, positions=moves()), leases)
    created, found = {row.run_id: row.created_at for row in rows}, list[str]()
    while page := await ids(
        store, limit=3, ascending=True, after=(created[found[-1]], found[-1]) if found else None, **wanted
    ):
        found += page
    assert found == list(reversed(await ids(store, limit=100, **wanted)))


@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize("thread_id", [None, "thread_1"])
async def test_a_list_stops_in_front_of_a_place(
    store: Store, leases: dict[int, Lease], thread_id: str | None, ascending: bool
) -> None:
    """What lies behind one place and in front of another is exactly what stands between them in the whole list."""
    rows = [run(f"run_{number}", created_at=number // 7) for number in range(40)]
    await store.apply(Changes(runs=rows, positions=moves()), leases)
    created = {row.run_id: row.created_at for row in rows}
    whole = await ids(store, limit=100, ascending=ascending, thread_id=thread_id)
    for first, last in ((0, 39), (3, 9), (10, 11), (20, 5)):
        after, before = ((created[whole[place]], whole[place]) for place in (first, last))
        found = await ids(store, limit=100, ascending=ascending, thread_id=thread_id, after=after, before=before)
        assert found == whole[first + 1 : last]


async def test_a_project_has_only_its_own_runs(store: Store, leases: dict[int, Lease]) -> None:
    """For a project others' runs do not exist, neither by id nor in any list, whatever its name."""
    rows = [run("run_a"), run("run_b", dimensions=OTHERS), run("run_c", dimensions=NUL)]
    await store.apply(Changes(runs=rows, positions=moves()), leases)
    for project, run_id in (("proj_1", "run_a"), ("proj_2", "run_b"), ("a\x00\x01b", "run_c"), ("proj_3", None)):
        expected = [] if run_id is None else [run_id]
        for wanted in ({}, {"thread_id": "thread_1"}, {"status": RunStatus.QUEUED}, {"model": "gpt-4o"}):
            assert await ids(store, project_id=project, **wanted) == expected
        found = [row.run_id for row in rows if await store.find_run(row.run_id, project_id=project)]
        assert found == expected


async def test_a_project_sees_its_own_part_of_a_split_run(store: Store, leases: dict[int, Lease]) -> None:
    """Where partitions book a run under different projects, each project has the part that is its own."""
    rows = [run("run_a", body=b"one"), run("run_a", partition=1, dimensions=OTHERS, body=b"two")]
    await store.apply(Changes(runs=rows, positions=moves(0) | moves(1)), leases)
    assert [row.body for row in await store.find_run("run_a", project_id="proj_2")] == [b"two"]
    assert await ids(store, project_id="proj_2") == ["run_a"]
    assert await ids(store, project_id="proj_1") == ["run_a"]
    assert await ids(store) == ["run_a"]


@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize("wanted", [{"model": "gpt-4o"}, {"project_id": "proj_2"}, {"assistant_id": "nobody"}, {}])
async def test_browsing_finds_what_the_list_has(
    store: Store,
    leases: dict[int, Lease],
    wanted: dict[str, Any],
    ascending: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However little time a page has, the pages together are the whole list, each run once, and they come to an end."""
    for module in (sqlite_lists, postgres_reads):
        monkeypatch.setattr(module, "LOOKED_AT", 4)
    rows = [run(f"run_{n}", created_at=n // 7, dimensions=OTHERS if n % 5 else GPT) for n in range(40)]
    rows += [run("run_3", partition=1, created_at=3, dimensions=GPT)]
    await store.apply(Changes(runs=rows, positions=moves(0) | moves(1)), leases)
    filtered, found = RunFilter(**wanted, ascending=ascending, limit=3), list[str]()
    while (page := await store.browse_runs(filtered, seconds=0)).next is not None:
        found += [row.run_id for row in page.rows]
        filtered = replace(filtered, after=page.next)
    found += [row.run_id for row in page.rows]
    assert found == await ids(store, **wanted, ascending=ascending, limit=100)


async def test_flagged_runs_are_counted_by_themselves(store: Store, leases: dict[int, Lease]) -> None:
    """The counts of what is wanting are those that count_runs gives."""
    rows = [run("run_a", flags=int(Flag.INCOMPLETE | Flag.MISSING)), run("run_b", flags=int(Flag.THREAD)), run("run_c")]
    await store.apply(Changes(runs=rows, positions=moves()), leases)
    assert await store.count_flagged() == {"without_created": 1, "missing": 1, "flagged": 2}


async def test_runs_without_usage_are_counted_as_they_are_booked(store: Store, leases: dict[int, Lease]) -> None:
    """The partitions' shares add up to what all buckets say, through batches and refolds."""
    without = SUMS.index("without_usage")
    booked = {bucket(minute): sums(minute) for minute in (1, 2)}
    await store.apply(Changes(usage=booked, runs=[run("run_a")], positions=moves(0) | moves(1)), leases)
    told = sum(found.without_usage for found in await store.partitions())
    assert told == sum(row.sums[without] for row in await store.usage()) > 0
    await store.write_through_door(door(b"body", runs=[run("run_a")], usage={bucket(1): [-n for n in sums(1)]}))
    told = sum(found.without_usage for found in await store.partitions())
    assert told == sum(row.sums[without] for row in await store.usage()) == sums(2)[without]


def key(key_id: str, **fields: Any) -> ApiKey:
    told = {"hash": b"\x00" * 32, "name": "laptop", "scopes": ("read", "admin"), "project_id": None, "created_at": 5}
    return ApiKey(key_id=key_id, **{**told, **fields})


async def test_keys_come_back_as_they_were_kept(store: Store, store_factory: StoreFactory) -> None:
    """Every field of a key is kept, in the order in which keys were made, also in another process."""
    kept = [key("b", created_at=1), key("a", name="caf\x00é", project_id="proj\x00_1", scopes=("publish",))]
    for one in reversed(kept):
        await store.add_key(one)
    assert await store.keys() == kept
    assert await (await store_factory()).keys() == kept


async def test_a_revoked_key_has_ended(store: Store) -> None:
    """It says since when, which revoking it again does not move; a key that is not there cannot be revoked."""
    await store.add_key(key("a"))
    assert await store.revoke_key("a")
    (ended,) = await store.keys()
    assert ended.revoked_at is not None
    assert replace(ended, revoked_at=None) == key("a")
    assert await store.revoke_key("a")
    assert await store.keys() == [ended]
    assert not await store.revoke_key("b")
