from __future__ import annotations

import pytest

from runfold.cli.printing import print_table, shown_seconds, shown_time


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


def test_nothing_is_cut_where_stdout_is_a_file(capsys):
    """A table that nobody looks at on a terminal keeps its long values whole and in one line."""
    print_table(("a", "b"), [("x" * 100, "y" * 100)])
    assert f"{'x' * 100}   {'y' * 100}" in capsys.readouterr().out
