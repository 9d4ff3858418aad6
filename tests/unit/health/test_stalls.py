"""What stands still: only that whose log is ahead, for longer than the bound, in a process that was awake."""

from __future__ import annotations

import pytest

from runfold.health.stalls import LOOP, POSITION, TAKING, Stall, Stalls
from runfold.health.vitals import Standing

BOUND = 10.0


class Clocked:
    """Stalls that are looked at every second; ``position`` and ``end`` are those of partition 3."""

    def __init__(self) -> None:
        self.stalls, self.now = Stalls(BOUND), 100.0

    def look(self, seconds: int, *, position: int, end: int | None, read_to: int | None = None) -> list[Stall]:
        found: list[Stall] = []
        for _ in range(seconds):
            self.now += 1
            owned = {3: Standing(position, position if read_to is None else read_to)}
            self.stalls.look(owned, {} if end is None else {3: end}, now=self.now)
            found = self.stalls.found(loop_turned_at=self.now, taking_since=None, now=self.now)
        return found


@pytest.fixture
def clocked() -> Clocked:
    return Clocked()


def test_a_position_that_does_not_move(clocked: Clocked) -> None:
    """A position that stands for longer than the bound while the end is ahead is stuck, since it was first seen so."""
    assert clocked.look(11, position=5, end=9) == []
    assert clocked.look(1, position=5, end=9) == [Stall(POSITION, 101.0, 3)]


def test_an_end_that_moves_is_no_progress(clocked: Clocked) -> None:
    """That more records come changes nothing: it is the position that has to move."""
    for end in range(6, 18):
        found = clocked.look(1, position=5, end=end)
    assert found == [Stall(POSITION, 101.0, 3)]


def test_a_position_that_moves_is_not_stuck(clocked: Clocked) -> None:
    """However far behind: a position that moves is not stuck."""
    assert all(clocked.look(1, position=position, end=10**9) == [] for position in range(40))


def test_nothing_to_fold_is_not_stuck(clocked: Clocked) -> None:
    """At the end of the log nothing is stuck, for however long nothing comes."""
    assert clocked.look(100, position=9, end=9) == []


def test_offsets_without_records_are_not_waited_for(clocked: Clocked) -> None:
    """Where the log was read to its end and there was nothing to fold, the position may stay behind."""
    assert clocked.look(100, position=5, end=9, read_to=9) == []


def test_waiting_begins_when_records_come(clocked: Clocked) -> None:
    """The time of standing still begins when there is something to fold, not when the position moved last."""
    clocked.look(100, position=9, end=9)
    assert clocked.look(11, position=9, end=10) == []
    assert clocked.look(1, position=9, end=10) == [Stall(POSITION, 201.0, 3)]


def test_an_unknown_end_accuses_nobody(clocked: Clocked) -> None:
    """While the log does not answer nothing is stuck for it, and afterwards time begins anew."""
    clocked.look(9, position=5, end=9)
    assert clocked.look(100, position=5, end=None) == []
    assert clocked.look(11, position=5, end=9) == []


def test_a_partition_that_is_gone_is_forgotten(clocked: Clocked) -> None:
    """A partition that somebody else holds now is not stuck here."""
    clocked.look(20, position=5, end=9)
    clocked.stalls.look({}, {}, now=clocked.now + 1)
    assert clocked.stalls.found(loop_turned_at=clocked.now, taking_since=None, now=clocked.now + 1) == []


def test_a_loop_that_does_not_turn(clocked: Clocked) -> None:
    """An event loop that has not come to its timer within the bound is stuck, whatever there is to fold."""
    clocked.look(30, position=9, end=9)
    found = clocked.stalls.found(loop_turned_at=clocked.now - 11, taking_since=None, now=clocked.now)
    assert found == [Stall(LOOP, clocked.now - 11)]


def test_partitions_that_cannot_be_taken(clocked: Clocked) -> None:
    """Partitions that are wanted for longer than the bound, and not had, are stuck."""
    clocked.look(30, position=9, end=9)
    found = clocked.stalls.found(loop_turned_at=clocked.now, taking_since=clocked.now - 11, now=clocked.now)
    assert found == [Stall(TAKING, clocked.now - 11)]


def test_a_process_that_was_stopped_is_given_its_time(clocked: Clocked) -> None:
    """A process that was stopped as a whole, and goes on, is not stuck when it wakes."""
    clocked.look(9, position=5, end=9)
    turned_at, clocked.now = clocked.now, clocked.now + 1_000
    assert clocked.look(1, position=5, end=9) == []
    assert clocked.stalls.found(loop_turned_at=turned_at, taking_since=turned_at, now=clocked.now) == []
