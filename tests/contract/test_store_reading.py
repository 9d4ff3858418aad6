"""What every store has to do, whichever it is: rows, lists, counts, letters and snapshots as they were written."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from store_contract import NAMELESS, ids, letter, moves, run

from runfold.fold.changes import Changes
from runfold.fold.outcome import Flag
from runfold.store.port import Lease, RunFilter, Store
from runfold_schemas import RunStatus


async def test_load_knows_only_its_partition(store: Store, leases: dict[int, Lease]) -> None:
    """Partitions are worlds of their own: the same run id elsewhere is not found."""
    batch = Changes(runs=[run("run_a"), run("run_b", partition=1)], positions=moves(0) | moves(1))
    await store.apply(batch, leases)
    assert set(await store.load(0, ["run_a", "run_b", "run_c"])) == {"run_a"}


async def test_runs_of_several_partitions_are_loaded_at_once(store: Store, leases: dict[int, Lease]) -> None:
    """Each run is found in the partition that it is asked for in, and in no other that is asked for others."""
    rows = [run("run_a", body=b"a0"), run("run_a", partition=1, body=b"a1"), run("run_b", partition=1), run("run_c")]
    await store.apply(Changes(runs=rows, positions=moves(0) | moves(1)), leases)
    found = await store.load_each({0: ["run_a", "run_b"], 1: ["run_a", "run_c"], 2: ["run_a"], 3: []})
    assert sorted((row.partition, row.run_id, row.body) for row in found) == [(0, "run_a", b"a0"), (1, "run_a", b"a1")]


async def test_load_takes_thousands_of_any_ids(store: Store, leases: dict[int, Lease]) -> None:
    """However many, however odd: every id that is there is found, and no other."""
    odd = ["", "\x00", "a\x00b", "é", "😀" * 16, "'; drop table run", "x" * 5000]
    names = [f"run_{number}" for number in range(3000)] + odd
    await store.apply(Changes(runs=[run(name, body=name.encode()) for name in names], positions=moves()), leases)
    rows = await store.load(0, names + [f"absent_{number}" for number in range(3000)])
    assert {name: row.body for name, row in rows.items()} == {name: name.encode() for name in names}


async def test_find_run_gives_the_rows_of_a_split_run(store: Store, leases: dict[int, Lease]) -> None:
    """A run that lies on two partitions is found on both, and counted as split."""
    rows = [run("run_a", partition=1, body=b"1"), run("run_a", body=b"0"), run("run_b")]
    await store.apply(Changes(runs=rows, positions=moves(0) | moves(1)), leases)
    assert [(row.partition, row.body) for row in await store.find_run("run_a")] == [(0, b"0"), (1, b"1")]
    assert (await store.count_runs())["split"] == 1


async def test_a_split_run_is_listed_once(store: Store, leases: dict[int, Lease]) -> None:
    """The row that has created speaks for the run, else the lower partition; pages of one neither repeat nor lose it."""
    rows = [
        run("run_a", flags=int(Flag.INCOMPLETE), created_at=5),
        run("run_a", partition=1, created_at=5),
        run("run_b", created_at=9),
        run("run_b", partition=1, created_at=4),
        run("run_c", created_at=4),
    ]
    await store.apply(Changes(runs=rows, positions=moves(0) | moves(1)), leases)
    listed = await store.list_runs(RunFilter(limit=9))
    assert [(row.run_id, row.partition) for row in listed] == [("run_b", 0), ("run_a", 1), ("run_c", 0)]
    assert await ids(store, limit=1, after=(9, "run_b")) == ["run_a"]
    assert await ids(store, limit=1, after=(5, "run_a")) == ["run_c"]


FILTERS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["run_d", "run_c", "run_b", "run_a"]),
    ({"limit": 2}, ["run_d", "run_c"]),
    ({"after": (30, "run_c")}, ["run_b", "run_a"]),
    ({"status": RunStatus.COMPLETED}, ["run_d", "run_b"]),
    ({"status": RunStatus.COMPLETED, "after": (40, "run_d")}, ["run_b"]),
    ({"thread_id": "thread_2"}, ["run_d", "run_c"]),
    ({"thread_id": "thread_2", "status": RunStatus.QUEUED}, ["run_c"]),
    ({"thread_id": "thread_2", "after": (40, "run_d")}, ["run_c"]),
    ({"thread_id": "thread_3"}, []),
    ({"model": "gpt-4o"}, ["run_b", "run_a"]),
    ({"assistant_id": "asst_1", "status": RunStatus.QUEUED}, ["run_a"]),
    ({"model": ""}, ["run_d", "run_c"]),
    ({"flagged": True}, ["run_d", "run_c"]),
    ({"flagged": False}, ["run_b", "run_a"]),
    ({"incomplete": True}, ["run_d"]),
    ({"incomplete": False}, ["run_c", "run_b", "run_a"]),
    ({"missing": True}, ["run_d", "run_c"]),
    ({"missing": True, "incomplete": False, "thread_id": "thread_2"}, ["run_c"]),
]


@pytest.mark.parametrize(("wanted", "expected"), FILTERS)
async def test_runs_are_listed_newest_first(
    store: Store, leases: dict[int, Lease], wanted: dict[str, Any], expected: list[str]
) -> None:
    """Every filter gives exactly its runs, in the one order."""
    other = {"dimensions": NAMELESS, "thread_id": "thread_2"}
    missing = int(Flag.MISSING)
    rows = [
        run("run_a", created_at=10),
        run("run_b", created_at=20, status=RunStatus.COMPLETED),
        run("run_c", created_at=30, flags=missing, **other),
        run("run_d", created_at=40, flags=missing | Flag.INCOMPLETE, status=RunStatus.COMPLETED, **other),
    ]
    await store.apply(Changes(runs=rows, positions=moves()), leases)
    assert await ids(store, **wanted) == expected


@pytest.mark.parametrize("wanted", [{}, {"thread_id": "thread_1"}, {"status": RunStatus.QUEUED}])
async def test_pages_make_up_the_whole_list(store: Store, leases: dict[int, Lease], wanted: dict[str, Any]) -> None:
    """Going on behind the last run of a page misses none and repeats none, also within one second."""
    rows = [run(f"run_{number}", created_at=number // 7) for number in range(40)]
    await store.apply(Changes(runs=rows, positions=moves()), leases)
    created, found = {row.run_id: row.created_at for row in rows}, list[str]()
    while page := await ids(store, limit=3, after=(created[found[-1]], found[-1]) if found else None, **wanted):
        found += page
    assert found == sorted(created, key=lambda name: (created[name], name), reverse=True)


async def test_a_late_created_moves_its_run_in_the_lists(store: Store, leases: dict[int, Lease]) -> None:
    """When thread and time become known, the run is found under these and no longer under those it stood under."""
    guessed = run("run_a", thread_id="guess", created_at=50, flags=int(Flag.INCOMPLETE))
    others = [run(f"run_{number}", created_at=45) for number in range(20)]
    handles = await store.apply(Changes(runs=[guessed, *others], positions=moves()), leases)
    known = run("run_a", handle=handles[0, "run_a"], thread_id="right", created_at=40)
    await store.apply(Changes(runs=[known], positions=moves(begin=10, end=11)), leases)
    assert await ids(store, thread_id="guess") == []
    assert await ids(store, thread_id="right") == ["run_a"]
    assert (await ids(store, limit=50))[-1] == "run_a"
    assert await ids(store, incomplete=True) == []


async def test_runs_are_counted_by_status_and_flag(store: Store, leases: dict[int, Lease]) -> None:
    """The status incomplete and a run without created are two things, and counted apart."""
    rows = [
        run("run_a", status=RunStatus.INCOMPLETE),
        run("run_b", flags=int(Flag.INCOMPLETE)),
        run("run_c", flags=int(Flag.MISSING)),
    ]
    await store.apply(Changes(runs=rows, positions=moves()), leases)
    counts = {name: count for name, count in (await store.count_runs()).items() if count}
    assert counts == {"incomplete": 1, "queued": 2, "without_created": 1, "missing": 1, "flagged": 2}


async def test_letters_come_back_whole(store: Store, leases: dict[int, Lease]) -> None:
    """Every byte of a rejected record is kept, also of one without key, value or headers."""
    whole = letter(3, headers=(("trace", b"\x01"), ("trace", b"\x02"), ("trace", None)))
    bare = letter(4, run_id=None, key=None, value=None)
    await store.apply(Changes(letters=[bare, whole], positions=moves()), leases)
    assert await store.letters() == [whole, bare]


async def test_letters_are_found_by_run_and_place(store: Store, leases: dict[int, Lease]) -> None:
    """By run, by place, and page by page in the order of the log; counted by reason."""
    first, second, third = letter(1), letter(2, run_id="run_b", reason="clock"), letter(0, partition=1)
    await store.apply(Changes(letters=[third, second, first], positions=moves(0) | moves(1)), leases)
    assert await store.letters(run_id="run_a") == [first, third]
    assert await store.letters(place=(0, 2)) == [second]
    assert await store.letters(limit=1, after=(0, 1)) == [second]
    assert await store.letters(after=(0, 2)) == [third]
    assert await store.count_letters() == {"clock": 1, "malformed": 2}


async def test_a_snapshot_stands_still(store: Store, leases: dict[int, Lease]) -> None:
    """What is written after it was taken is not in it."""
    await store.apply(Changes(runs=[run("run_a")], positions=moves()), leases)
    snapshot = await store.snapshot()
    await store.apply(Changes(runs=[run("run_b")], positions=moves(begin=10, end=12)), leases)
    assert [row[0] for row in snapshot.runs(0)] == ["run_a"]
    assert (await snapshot.positions())[0] == 10
    await snapshot.close()


async def test_a_snapshot_scans_what_it_lists(store: Store, leases: dict[int, Lease]) -> None:
    """The scan in any order has the same rows as the ordered lists of all partitions."""
    rows = [run(f"run_{number}", partition=number % 2) for number in range(30)]
    await store.apply(Changes(runs=rows, positions=moves(0) | moves(1)), leases)
    snapshot = await store.snapshot()
    listed = [(partition, row) for partition in (0, 1) for row in snapshot.runs(partition)]
    assert sorted(snapshot.scan_runs()) == listed
    await snapshot.close()


async def test_cancelled_reads_leave_the_store_usable(store: Store, leases: dict[int, Lease]) -> None:
    """However many reads were given up, the next one answers, and writing goes on."""
    await store.apply(Changes(runs=[run("run_a")], positions=moves()), leases)
    for _ in range(20):
        reading = asyncio.ensure_future(store.list_runs(RunFilter()))
        await asyncio.sleep(0)
        reading.cancel()
    await store.apply(Changes(runs=[run("run_b")], positions=moves(begin=10, end=12)), leases)
    assert await ids(store) == ["run_b", "run_a"]
