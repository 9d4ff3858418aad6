"""A source counts a run's events without a hole and never twice, whatever it has to forget."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runfold.log.numbering import LONGEST_NAME, Numbering
from runfold_schemas.events import RunCompleted, RunCreated, RunInProgress, RunUsageCorrected, Usage

NOW = 1_760_000_000_000
USAGE = Usage(prompt_tokens=1, completion_tokens=1, total_tokens=2)


def event(kind=RunInProgress, run: str = "run_1", **fields):
    return kind(run_id=run, thread_id="thread_1", **fields)


def completed(numbering: Numbering, *events, now: int = NOW) -> list:
    done = [numbering.complete(one, now) for one in events]
    numbering.keep()
    return done


def test_a_runs_events_are_counted_from_one():
    """The events of each run get 1, 2, 3 and so on."""
    done = completed(Numbering("shop"), event(), event(run="run_2"), event(), event(), event(run="run_2"))
    assert [one.sequence for one in done] == [1, 1, 2, 3, 2]


def test_what_is_left_out_is_filled_in():
    """Id, time and source are filled in, the id as a UUID of version 7."""
    (done,) = completed(Numbering("shop"), event())
    assert (done.id[14], done.occurred_at, done.source.split(".")[0]) == ("7", NOW, "shop")


def test_what_is_given_is_kept():
    """Id, time, source and number that are given stay as they are."""
    given_event = event(id="mine", occurred_at=NOW - 5, source="theirs", sequence=17)
    assert completed(Numbering("shop"), given_event) == [given_event]


def test_numbers_of_others_are_not_counted():
    """An event with a source of its own takes no number of ours."""
    done = completed(Numbering("shop"), event(), event(source="theirs", sequence=9), event())
    assert [one.sequence for one in done] == [1, 9, 2]


def test_a_runs_time_never_goes_back():
    """When the clock goes back, a run's events keep the latest time they had."""
    numbering = Numbering("shop")
    completed(numbering, event())
    (later,) = completed(numbering, event(), now=NOW - 60_000)
    assert later.occurred_at == NOW


def test_a_given_time_holds_the_later_ones():
    """A time that is filled in is never before one that was given."""
    _, later = completed(Numbering("shop"), event(occurred_at=NOW + 500), event())
    assert later.occurred_at == NOW + 500


def test_taken_back_numbers_are_free_again():
    """What was taken back leaves no hole in the count."""
    numbering = Numbering("shop")
    completed(numbering, event())
    numbering.complete(event(), NOW)
    numbering.complete(event(RunCompleted), NOW)
    numbering.take_back()
    assert completed(numbering, event())[0].sequence == 2


def test_a_run_that_ended_is_counted_under_a_newer_name():
    """A correction after the end is number 1 of another source, since the count was forgotten."""
    ended, corrected = completed(Numbering("shop"), event(RunCompleted), event(RunUsageCorrected, usage=USAGE))
    assert (corrected.sequence, corrected.source != ended.source) == (1, True)


def test_runs_that_begin_share_one_name():
    """Ends of other runs do not change the name under which new runs begin."""
    numbering = Numbering("shop")
    names = set()
    for number in range(10):
        run = f"run_{number}"
        names |= {one.source for one in completed(numbering, event(RunCreated, run), event(RunCompleted, run))}
    assert len(names) == 1


def test_a_run_forgotten_for_want_of_room_is_counted_under_a_newer_name():
    """A live run that had to be forgotten is number 1 of another source when it comes again."""
    numbering = Numbering("shop", most_runs=1)
    (first,) = completed(numbering, event())
    completed(numbering, event(run="run_2"))
    (again,) = completed(numbering, event())
    assert (again.sequence, again.source != first.source) == (1, True)


def test_the_runs_silent_longest_are_forgotten_first():
    """Room is made by those that have not been heard of for longest."""
    numbering = Numbering("shop", most_runs=2)
    for run in ("run_1", "run_2", "run_1", "run_3"):
        completed(numbering, event(run=run))
    assert completed(numbering, event(run="run_1"))[0].sequence == 3


def test_two_publishers_have_two_names():
    """The same name given twice makes two sources."""
    (one,), (other,) = completed(Numbering("shop"), event()), completed(Numbering("shop"), event())
    assert one.source != other.source


def test_a_name_never_outgrows_a_source():
    """With the longest name and a million million generations a source has at most 64 characters."""
    numbering = Numbering("x" * LONGEST_NAME)
    numbering._generation = 10**12
    numbering._next_generation()
    assert len(completed(numbering, event())[0].source) <= 64


@pytest.mark.parametrize("name", ["", "x" * (LONGEST_NAME + 1)])
def test_a_name_of_no_or_too_many_characters_is_refused(name):
    """A name that cannot be part of a source is refused when the publisher is made."""
    with pytest.raises(ValueError, match="source"):
        Numbering(name)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.booleans()), max_size=80),
    st.integers(1, 4),
)
def test_no_number_is_used_twice_and_none_is_left_out(steps, most_runs):
    """Whatever is forgotten or taken back, each source counts each run 1, 2, 3 without hole or repetition."""
    numbering = Numbering("shop", most_runs=most_runs)
    counted = defaultdict(list)
    for run, ends, sent in steps:
        done = numbering.complete(event(RunCompleted if ends else RunInProgress, f"run_{run}"), NOW)
        if sent:
            numbering.keep()
            counted[done.source, done.run_id].append(done.sequence)
        else:
            numbering.take_back()
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in counted.values())
