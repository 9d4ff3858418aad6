"""What stores beside a live one have to do, wherever they are kept: made, filled, exchanged under whoever has them open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from store_contract import FOLD, GPT, LOG, bucket, door, dumped, ids, letter, moves, run, sums

from runfold import wiring
from runfold.config import load_settings
from runfold.fold.changes import Changes
from runfold.fold.usage import Dimensions
from runfold.store.port import Lease, LostRange, Note, StalePosition, Store, StoreBusy, StoreRefused, StoreUnreachable
from runfold.store.shadows import Shadows
from runfold.wiring import SHADOWS, STORES

OTHERS = Dimensions("claude", "asst_2", "proj_2", "user_2", "key_2")
NOTE = Note(partition=0, offset=3, kind="discard", reason="known", noted_at=5)


@pytest.fixture(params=sorted(SHADOWS))
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def shadows(url: str) -> Shadows:
    return SHADOWS[url.partition("://")[0]](url)


class Stores:
    """Opens the live store, and those beside it, and closes them with the test."""

    def __init__(self, url: str, shadows: Shadows) -> None:
        self.url, self.shadows = url, shadows
        self.opened: list[Store] = []

    async def live(self, *, write: bool = True) -> Store:
        """To write as workers open it, to read as servers do."""
        if not write:
            return await self._open(
                wiring.open_answering_store(load_settings({"store": self.url}, environment={})), write=False
            )
        return await self._open(STORES[self.url.partition("://")[0]](self.url))

    async def beside(self, name: str) -> Store:
        return await self._open(self.shadows.opened(name))

    async def _open(self, store: Store, *, write: bool = True) -> Store:
        await store.open(write=write)
        self.opened.append(store)
        if write:
            await store.bind(**LOG, **FOLD)
        return store


@pytest.fixture
async def stores(url: str, shadows: Shadows) -> AsyncIterator[Stores]:
    made = Stores(url, shadows)
    yield made
    for store in made.opened:
        await store.close()


async def filled(store: Store, owner: str, *runs: Any, end: int = 10) -> dict[int, Lease]:
    """One partition, folded up to ``end``: these runs, whose usage has dimensions that were not seen before them."""
    leases = await store.claim(owner, {0: 0}, lease=60)
    changes = Changes(runs=list(runs), positions=moves(end=end))
    changes.usage = {bucket(dimensions=each.dimensions): sums(1) for each in runs}
    await store.apply(changes, leases)
    return leases


@pytest.fixture
async def live(stores: Stores) -> Store:
    """The live store: it holds ``run_old``, and its worker is ``me``."""
    store = await stores.live()
    await filled(store, "me", run("run_old"))
    return store


@pytest.fixture
async def name(live: Store, stores: Stores, shadows: Shadows) -> str:
    """A rebuilt store at the live one's position: it holds ``run_new``, and knew other dimensions first."""
    made = await shadows.make(scope="all")
    shadow = await stores.beside(made)
    leases = await filled(shadow, "shadow", run("run_new", dimensions=OTHERS), run("run_too", dimensions=GPT))
    await shadow.release("shadow", leases)
    await shadows.complete(made)
    return made


async def switched(shadows: Shadows, name: str) -> None:
    await shadows.exchange(name, await shadows.hold("switch", lease=60))


async def roles(shadows: Shadows) -> list[str]:
    return [each.role for each in await shadows.standing()]


async def test_where_nothing_was_rebuilt_there_is_the_live_store(shadows: Shadows, live: Store) -> None:
    """A store that was never rebuilt stands alone."""
    (standing,) = await shadows.standing()
    assert (standing.role, standing.scope) == ("live", None)
    assert standing.size > 0


async def test_where_there_is_no_store_nothing_stands(shadows: Shadows) -> None:
    """Stores beside one that is not there are not looked for."""
    with pytest.raises(StoreUnreachable):
        await shadows.standing()


async def test_a_shadow_keeps_its_scope(shadows: Shadows, name: str) -> None:
    """What a rebuild was told is found again with its store."""
    standing = (await shadows.standing())[1]
    assert (standing.name, standing.role, standing.scope) == (name, "shadow", "all")


async def test_the_live_store_knows_nothing_of_its_shadow(live: Store, name: str) -> None:
    """What is written beside the live store is not in it."""
    assert await ids(live) == ["run_old"]


async def test_a_complete_shadow_answers_as_any_store(stores: Stores, name: str) -> None:
    """Lists by every filter, which the indexes are for that come late, find what is there."""
    shadow = await stores.beside(name)
    assert await ids(shadow) == ["run_too", "run_new"]
    assert await ids(shadow, status=1) == await ids(shadow, thread_id="thread_1", status=1)
    assert await ids(shadow, flagged=True) == []


async def test_a_held_store_takes_nothing_from_its_owner(shadows: Shadows, live: Store) -> None:
    """Whoever had a partition meets StalePosition, and what it wrote is not there."""
    leases = await live.claim("me", {0: 0}, lease=60)
    await shadows.hold("switch", lease=60)
    with pytest.raises(StalePosition):
        await live.apply(Changes(positions=moves(begin=10, end=20)), leases)
    assert [each.position for each in await live.partitions()] == [10]


async def test_a_held_store_gives_no_partition(shadows: Shadows, live: Store) -> None:
    """While it is held, claims come back empty, also those of the worker that had it."""
    await shadows.hold("switch", lease=60)
    assert await live.claim("me", {0: 0}, lease=60) == {}


async def test_a_hold_tells_where_the_store_stands(shadows: Shadows, live: Store) -> None:
    """Its leases have the positions at which the store stands still."""
    held = await shadows.hold("switch", lease=60)
    assert {which: lease.position for which, lease in held.items()} == {0: 10}


async def test_a_released_hold_is_over(shadows: Shadows, live: Store) -> None:
    """After it is released the partitions can be had."""
    await shadows.release("switch", await shadows.hold("switch", lease=60))
    assert set(await live.claim("me", {0: 0}, lease=60)) == {0}


async def test_a_forgotten_hold_runs_out(shadows: Shadows, live: Store) -> None:
    """Whoever holds and dies keeps nobody out for ever."""
    await shadows.hold("switch", lease=0.05)
    await asyncio.sleep(0.1)
    assert set(await live.claim("me", {0: 0}, lease=60)) == {0}


async def test_whoever_has_the_store_open_reads_the_new_one(
    stores: Stores, shadows: Shadows, live: Store, name: str
) -> None:
    """After an exchange a writer and a reader of before both answer from the store that was switched to."""
    reader = await stores.live(write=False)
    assert await ids(reader) == ["run_old"]
    await switched(shadows, name)
    assert await ids(reader) == await ids(live) == ["run_too", "run_new"]
    assert [row.run_id for row in await live.find_run("run_new")] == ["run_new"]
    assert set(await live.load(0, ["run_new", "run_old"])) == {"run_new"}


async def test_whoever_comes_later_opens_the_new_one(stores: Stores, shadows: Shadows, name: str) -> None:
    """The URL of before leads to the store that was switched to."""
    await switched(shadows, name)
    assert await ids(await stores.live()) == ["run_too", "run_new"]


async def test_a_snapshot_after_the_exchange_is_of_the_new_one(shadows: Shadows, live: Store, name: str) -> None:
    """Dump and digest are of the store that was switched to."""
    await switched(shadows, name)
    assert any(b"run_new" in line for line in await dumped(live))


async def test_leases_of_before_are_worth_nothing(shadows: Shadows, live: Store, name: str) -> None:
    """An owner that slept through the exchange cannot write into either store."""
    leases = await live.claim("me", {0: 0}, lease=60)
    await switched(shadows, name)
    with pytest.raises(StalePosition):
        await live.apply(Changes(positions=moves(begin=10, end=20)), leases)
    assert [each.position for each in await live.partitions()] == [10]


async def test_a_worker_goes_on_in_the_new_store(stores: Stores, shadows: Shadows, live: Store, name: str) -> None:
    """It takes its partitions again, and what it writes has the new store's keys: another reader sees it as it was meant."""
    await live.claim("me", {0: 0}, lease=60)
    await switched(shadows, name)
    leases = await live.claim("me", {0: 0}, lease=60)
    changes = Changes(runs=[run("run_next")], positions=moves(begin=10, end=20), usage={bucket(): sums(5)})
    await live.apply(changes, leases)
    usage = {row.bucket: row.sums for row in await (await stores.live()).usage()}
    assert usage == {bucket(): tuple(sums(6)), bucket(dimensions=OTHERS): tuple(sums(1))}


async def test_a_refold_planned_before_does_not_use_keys_of_before(
    stores: Stores, shadows: Shadows, live: Store, name: str
) -> None:
    """A write through the door of a store that was exchanged is refused, or comes with the new store's keys."""
    await switched(shadows, name)
    change = door(None, runs=[run("run_a")], usage={bucket(): sums(5)})
    try:
        await live.write_through_door(change)
    except StalePosition:
        await live.bind(**LOG, **FOLD)
        await live.write_through_door(change)
    usage = {row.bucket: row.sums for row in await (await stores.live()).usage()}
    assert usage == {bucket(): tuple(sums(6)), bucket(dimensions=OTHERS): tuple(sums(1))}


async def test_a_note_after_the_exchange_is_in_the_new_store(
    stores: Stores, shadows: Shadows, live: Store, name: str
) -> None:
    """What people decide goes to the live store, whoever writes it down."""
    await switched(shadows, name)
    await live.add_note(NOTE)
    assert await (await stores.live()).notes() == [NOTE]


async def test_what_was_decided_and_who_works_goes_over(shadows: Shadows, live: Store, name: str) -> None:
    """Lost ranges, growths and workers of the live store are those of its successor, whichever way the switch goes."""
    loss = LostRange(partition=0, begin=1, end=4, noticed_at=7)
    await live.renew("me", await live.claim("me", {0: 0}, lease=60), lease=60)
    await live.note_loss(loss)
    await switched(shadows, name)
    assert await live.lost_ranges() == [loss]
    assert [worker.owner for worker in await live.workers()] == ["me"]
    again = LostRange(partition=0, begin=5, end=6, noticed_at=8)
    await live.note_loss(again)
    await switched(shadows, (await shadows.standing())[1].name)
    assert await live.lost_ranges() == [loss, again]


async def test_the_former_can_be_gone_back_to(shadows: Shadows, live: Store, name: str) -> None:
    """It is known as the former, and exchanging it makes the other one the former."""
    await switched(shadows, name)
    assert await roles(shadows) == ["live", "former"]
    former = (await shadows.standing())[1].name
    await switched(shadows, former)
    assert await roles(shadows) == ["live", "former"]
    assert await ids(live) == ["run_old"]


async def test_a_store_may_be_exchanged_again_and_again(
    stores: Stores, shadows: Shadows, live: Store, name: str
) -> None:
    """To and fro, five times: readers of before, and those who come, always see the last one."""
    seen = []
    for _ in range(5):
        await switched(shadows, (await shadows.standing())[1].name)
        seen.append((await ids(live))[-1:])
        assert await ids(await stores.live(write=False)) == await ids(live)
    assert seen == [["run_new"], ["run_old"]] * 2 + [["run_new"]]


async def test_a_partition_taken_meanwhile_keeps_the_store(shadows: Shadows, live: Store, name: str) -> None:
    """When the hold has run out and a worker is back, nothing is exchanged."""
    held = await shadows.hold("switch", lease=0)
    await live.claim("me", {0: 0}, lease=60)
    with pytest.raises(StalePosition):
        await shadows.exchange(name, held)
    assert await ids(live) == ["run_old"]


async def test_a_store_that_is_behind_is_not_switched_to(shadows: Shadows, live: Store, name: str) -> None:
    """Where positions differ nothing is exchanged, and the live store can be served on."""
    leases = await live.claim("me", {0: 0}, lease=60)
    await live.apply(Changes(positions=moves(begin=10, end=20)), leases)
    held = await shadows.hold("switch", lease=60)
    with pytest.raises(StalePosition):
        await shadows.exchange(name, held)
    await shadows.release("switch", held)
    assert await ids(live) == ["run_old"]
    assert set(await live.claim("me", {0: 0}, lease=60)) == {0}


async def test_a_note_that_is_not_there_keeps_the_store(shadows: Shadows, live: Store, name: str) -> None:
    """What people have decided in the last moment is not lost: nothing is exchanged without it."""
    held = await shadows.hold("switch", lease=60)
    await live.add_note(NOTE)
    with pytest.raises(StalePosition):
        await shadows.exchange(name, held)
    assert await live.notes() == [NOTE]


async def test_only_one_rebuild_at_a_time(url: str, shadows: Shadows, live: Store) -> None:
    """Whoever comes second is told so, and may when the first is done."""
    other = SHADOWS[url.partition("://")[0]](url)
    async with shadows.alone():
        with pytest.raises(StoreBusy):
            async with other.alone():
                pass
    async with other.alone():
        pass


async def test_the_live_store_is_not_dropped(shadows: Shadows, live: Store) -> None:
    """Neither by mistake nor by name."""
    with pytest.raises(StoreRefused):
        await shadows.drop((await shadows.standing())[0].name)


async def test_what_is_no_store_is_not_dropped(shadows: Shadows, live: Store) -> None:
    """A name that means nothing is a refusal, not a success."""
    with pytest.raises(StoreRefused):
        await shadows.drop("nothing")


async def test_a_dropped_shadow_is_gone(shadows: Shadows, live: Store, name: str) -> None:
    """Nothing of it stands there any more."""
    await shadows.drop(name)
    assert await roles(shadows) == ["live"]


async def test_a_dropped_former_leaves_everybody_reading(
    stores: Stores, shadows: Shadows, live: Store, name: str
) -> None:
    """Readers who have not looked since before the exchange, and those who come, find the live store."""
    idle = await stores.live(write=False)
    await switched(shadows, name)
    await shadows.drop((await shadows.standing())[1].name)
    assert await roles(shadows) == ["live"]
    assert await ids(idle) == await ids(await stores.live(write=False)) == ["run_too", "run_new"]


async def test_a_chain_of_dropped_stores_leads_to_the_live_one(
    stores: Stores, shadows: Shadows, live: Store, name: str
) -> None:
    """Who slept through two exchanges, and the dropping of all that was before, still finds the way."""
    sleeper = await stores.live()
    leases = await sleeper.claim("sleeper", {1: 0}, lease=60)
    await sleeper.release("sleeper", leases)
    shadow = await stores.beside(name)
    await shadow.claim("shadow", {1: 0}, lease=0)
    await switched(shadows, name)
    second = await shadows.make(scope="all")
    shadow = await stores.beside(second)
    await filled(shadow, "shadow", run("run_last"))
    await shadow.claim("shadow", {1: 0}, lease=0)
    await shadows.complete(second)
    await switched(shadows, second)
    for each in await shadows.standing():
        if each.role != "live":
            await shadows.drop(each.name)
    assert await ids(sleeper) == ["run_last"]
    assert set(await sleeper.claim("sleeper", {0: 0}, lease=60)) == {0}


async def test_a_letter_of_the_new_store_is_found(stores: Stores, shadows: Shadows, live: Store, name: str) -> None:
    """Dead letters come from the store that was switched to."""
    shadow = await stores.beside(name)
    leases = await shadow.claim("shadow", {0: 0}, lease=0)
    await shadow.apply(Changes(letters=[letter(3)], positions=moves(begin=10, end=10)), leases)
    await switched(shadows, name)
    assert [each.offset for each in await live.letters()] == [3]
