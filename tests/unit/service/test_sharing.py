"""Fair share: whatever the workers see, they come to rest at equal parts, and move no partition without need."""

from __future__ import annotations

from random import Random

import pytest

from runfold.service.sharing import fair_share
from runfold.store.port import Crew, Seat

Holdings = dict[str, set[int]]


def crew_of(holdings: Holdings, *, partitions: int) -> Crew:
    seats = {which: Seat(owner=None, position=0) for which in range(partitions)}
    for worker, held in holdings.items():
        seats |= {which: Seat(owner=worker, position=0) for which in held}
    return Crew(alive=frozenset(holdings), seats=seats)


def settle(holdings: Holdings, *, partitions: int, random: Random) -> int:
    """Let workers act, one after the other in any order, until nobody has anything to do; returns how many were given."""
    given = 0
    for _ in range(1_000):
        acted = False
        for worker in random.sample(sorted(holdings), len(holdings)):
            share = fair_share(
                worker, holdings[worker], crew_of(holdings, partitions=partitions), partitions=partitions
            )
            holdings[worker] |= set(share.take)
            if share.give:
                holdings[worker].remove(max(holdings[worker]))
                given += 1
            acted |= share.give or bool(share.take)
        if not acted:
            return given
    raise AssertionError(f"no rest: {holdings}")


@pytest.mark.parametrize("seed", range(50))
def test_any_start_comes_to_rest_at_fair_shares(seed: int) -> None:
    """From any distribution every partition ends with one worker, and no worker has two more than another."""
    random = Random(seed)
    partitions, workers = random.randint(1, 24), [f"w{n}" for n in range(random.randint(1, 9))]
    holdings: Holdings = {worker: set() for worker in workers}
    for which in range(partitions):
        if random.random() < 0.8:
            holdings[random.choice(workers)].add(which)
    settle(holdings, partitions=partitions, random=random)
    counts = [len(held) for held in holdings.values()]
    assert sum(counts) == partitions
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("seed", range(20))
def test_one_that_joins_moves_its_share_and_no_more(seed: int) -> None:
    """After a worker joined, as many partitions were given as it has now."""
    random = Random(seed)
    partitions, workers = random.randint(2, 24), random.randint(1, 6)
    holdings: Holdings = {f"w{n}": set() for n in range(workers)}
    settle(holdings, partitions=partitions, random=random)
    holdings["new"] = set()
    assert settle(holdings, partitions=partitions, random=random) == len(holdings["new"])


def test_nothing_is_given_while_something_lies_free() -> None:
    """One partition at a time changes hands: what was given before has to be taken first."""
    holdings: Holdings = {"old": {0, 1, 2}, "new": set()}
    share = fair_share("old", holdings["old"], crew_of(holdings, partitions=4), partitions=4)
    assert (share.quota, share.give, share.take) == (2, False, [])


def test_what_is_ours_without_our_knowing_is_taken() -> None:
    """A claim whose answer was lost is made again."""
    crew = crew_of({"me": {0, 1}}, partitions=2)
    assert fair_share("me", {0}, crew, partitions=2).take == [1]


def test_a_silent_owner_has_no_seat_and_a_present_one_has_a_share() -> None:
    """Whoever is alive counts, with partitions or without; whose lease has run out does not."""
    crew = Crew(alive=frozenset({"me", "idle"}), seats={which: Seat(owner=None, position=0) for which in range(4)})
    assert fair_share("me", (), crew, partitions=4) == (2, [0, 1], False)
