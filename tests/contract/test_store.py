"""What every store has to do, whichever it is: one suite over all of them.

``store_factory`` opens the same store again on every call. SQLite runs with key tables of eight young keys, so that keys
settle in nearly every test.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from runfold.fold.changes import Changes, JournalEntry, Letter, PositionChange, RunChange
from runfold.fold.outcome import Flag
from runfold.fold.usage import SUMS, BucketKey, Dimensions
from runfold.store.digest import digest, dump
from runfold.store.memory import MemoryStore
from runfold.store.port import DoorChange, Lease, Note, RunFilter, StalePosition, Store, StoreRefused, UsageRow
from runfold.store.sqlite import SqliteStore
from runfold.wiring import STORES
from runfold_schemas import RunStatus

StoreFactory = Callable[[], Awaitable[Any]]
LOG = {"cluster_id": "log-1", "topic": "events", "partitions": 4}
FOLD = {"fold_version": 3, "compatible": (2,), "settings_hash": "abc"}
GPT = Dimensions("gpt-4o", "asst_1", "proj_1", "user_1", "")
NAMELESS = Dimensions()


@pytest.fixture(params=sorted(STORES))
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    if request.param == "sqlite":
        return lambda: SqliteStore(tmp_path / "store.db", young=8)
    if request.param == "memory":
        memory = MemoryStore()
        return lambda: memory
    url = request.getfixturevalue("postgres_url")
    return lambda: STORES[request.param](url)


@pytest.fixture
async def store_factory(make_store: Callable[[], Store]) -> AsyncIterator[StoreFactory]:
    opened = list[Store]()

    async def open_store() -> Store:
        store = make_store()
        await store.open()
        opened.append(store)
        return store

    yield open_store
    for store in opened:
        await store.close()


@pytest.fixture
async def store(store_factory: StoreFactory) -> Store:
    store: Store = await store_factory()
    await store.bind(**LOG, **FOLD)
    return store


@pytest.fixture
async def leases(store: Store) -> dict[int, Lease]:
    return await store.claim("me", {0: 0, 1: 0}, lease=60)


def run(run_id: str, *, partition: int = 0, handle: int = 0, body: bytes = b"body", **columns: Any) -> RunChange:
    known = {"thread_id": "thread_1", "status": RunStatus.QUEUED, "created_at": 1000, "flags": 0, "dimensions": GPT}
    booked = {"minute": None, "final_timestamp": None}
    return RunChange(partition=partition, run_id=run_id, handle=handle, body=body, **{**known, **booked, **columns})


def letter(offset: int, *, partition: int = 0, run_id: str | None = "run_a", **fields: Any) -> Letter:
    known = {"timestamp": 5, "reason": "malformed", "detail": "no map", "key": b"run_a", "value": b"\x00\xff"}
    return Letter(partition=partition, offset=offset, run_id=run_id, **{**known, **fields})


def moves(partition: int = 0, *, begin: int = 0, end: int = 10) -> dict[int, PositionChange]:
    return {partition: PositionChange(begin, end, end - 1, b"hash")}


def sums(runs: int) -> list[int]:
    return [runs * (place + 1) for place in range(len(SUMS))]


def bucket(minute: int = 7, dimensions: Dimensions = GPT, status: int = RunStatus.COMPLETED) -> BucketKey:
    return BucketKey(minute, dimensions, status)


def entry(offset: int, *, run_id: str = "run_a", runs: int = 1) -> JournalEntry:
    place = {"partition": 0, "offset": offset, "timestamp": 5}
    return JournalEntry(**place, run_id=run_id, bucket=bucket(), sums=tuple(sums(runs)))


async def dumped(store: Store) -> list[bytes]:
    snapshot = await store.snapshot()
    try:
        return [line async for line in dump(snapshot)]
    finally:
        await snapshot.close()


async def ids(store: Store, **wanted: Any) -> list[str]:
    return [row.run_id for row in await store.list_runs(RunFilter(**wanted))]


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
        ({"partitions": 5}, ["4 partitions", "5", "build a new store"]),
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


async def test_load_knows_only_its_partition(store: Store, leases: dict[int, Lease]) -> None:
    """Partitions are worlds of their own: the same run id elsewhere is not found."""
    batch = Changes(runs=[run("run_a"), run("run_b", partition=1)], positions=moves(0) | moves(1))
    await store.apply(batch, leases)
    assert set(await store.load(0, ["run_a", "run_b", "run_c"])) == {"run_a"}


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
    for begin in range(3):
        await store.apply(Changes(usage={bucket(): sums(2**63)}, positions=moves(begin=begin, end=begin + 1)), leases)
    assert [row.sums for row in await store.usage()] == [tuple(sums(3 * 2**63))]
    view = await store.snapshot()
    assert (await digest(view)).usage
    await view.close()
    await store.apply(Changes(usage={bucket(): sums(-3 * 2**63)}, positions=moves(begin=3, end=4)), leases)
    assert await store.usage() == []


async def test_emptied_buckets_are_not_shown(store: Store, leases: dict[int, Lease]) -> None:
    """A bucket whose runs have all moved elsewhere is as if it had never been."""
    before = await dumped(store)
    await store.apply(Changes(usage={bucket(): sums(2)}, positions=moves(end=1)), leases)
    await store.apply(Changes(usage={bucket(): sums(-2)}, positions=moves(begin=1, end=0)), leases)
    assert await store.usage() == []
    assert await dumped(store) == before


async def test_letters_come_back_whole(store: Store, leases: dict[int, Lease]) -> None:
    """Every byte of a rejected record is kept, also of one without key, value or headers."""
    whole = letter(3, headers=(("trace", b"\x01"), ("trace", b"\x02")))
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


def door(before: bytes | None, *letters: int, **changes: Any) -> DoorChange:
    return DoorChange(partition=0, run_id="run_a", before=before, before_letters=letters, changes=Changes(**changes))


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


async def test_cancelled_reads_leave_the_store_usable(store: Store, leases: dict[int, Lease]) -> None:
    """However many reads were given up, the next one answers, and writing goes on."""
    await store.apply(Changes(runs=[run("run_a")], positions=moves()), leases)
    for _ in range(20):
        reading = asyncio.ensure_future(store.list_runs(RunFilter()))
        await asyncio.sleep(0)
        reading.cancel()
    await store.apply(Changes(runs=[run("run_b")], positions=moves(begin=10, end=12)), leases)
    assert await ids(store) == ["run_b", "run_a"]


async def test_the_serve_lock_can_be_taken_and_given_back(store: Store) -> None:
    """One process may serve, stop and serve again."""
    with store.serve_lock():
        pass
    with store.serve_lock():
        pass
