from __future__ import annotations

import pytest

from runfold.cli.printing import print_facts, print_line, print_table, shown_seconds, shown_time, tell
from runfold.cli.text import counted


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "1970-01-01 00:00:00"), (1_760_000_000, "2025-10-09 08:53:20"), (None, None), (10**18, str(10**18))],
)
def test_times_are_shown_in_utc(seconds, shown):
    """A time is shown in UTC whatever the machine's zone; the unknown stays unknown; no calendar's end breaks a table."""
    assert shown_seconds(seconds) == shown


def test_milliseconds_are_shown_to_the_second():
    """A time in milliseconds is shown as the second it lies in."""
    assert shown_time(1_760_000_000_999) == "2025-10-09 08:53:20"


def test_a_table_shows_the_unknown_as_a_hyphen(capsys):
    """None and the empty text are a hyphen; 0 is 0."""
    print_table(("a", "b", "c"), [(None, "", 0)])
    assert capsys.readouterr().out.splitlines()[-1].split() == ["-", "-", "0"]


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\x1bb", "a\x85b", "a\u2028b", "a\u202eb", "a\tb"])
def test_what_publishers_wrote_stays_in_its_row(capsys, name):
    """A name with newlines or a terminal's codes in it neither breaks a row nor makes one up."""
    print_table(("run", "status"), [(name, "queued")])
    (row,) = capsys.readouterr().out.splitlines()[2:]
    assert row.split() == [name.encode("unicode_escape").decode(), "queued"]


def test_a_list_has_a_line_for_each_text(capsys):
    """What is a list to us has lines, and what a publisher wrote into one of them stays in it."""
    print_facts([("timeline", ["one\ntwo", "three"]), ("header [red]\n", "x")])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["timeline", "one\\ntwo"],
        ["three"],
        ["header", "[red]\\n", "x"],
    ]


def test_lines_are_escaped_as_well(capsys):
    """A line of an answer, and one beside it, is one line whatever is in it."""
    print_line("a\nb")
    tell("c\x1bd")
    assert capsys.readouterr() == ("a\\nb\n", "c\\x1bd\n")


@pytest.mark.parametrize(("number", "told"), [(0, "0 problems"), (1, "1 problem"), (2000, "2,000 problems")])
def test_numbers_have_the_right_noun(number, told):
    """One of a thing is not told as many."""
    assert counted(number, "problem") == told


def test_nothing_is_cut_where_stdout_is_a_file(capsys):
    """A table that nobody looks at on a terminal keeps its long values whole and in one line."""
    print_table(("a", "b"), [("x" * 100, "y" * 100)])
    assert f"{'x' * 100}   {'y' * 100}" in capsys.readouterr().out
