from __future__ import annotations

import pytest

from runfold.cli.when import seconds_of

NOW = 1_760_000_000.75


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("now", 1_760_000_000),
        ("-90s", 1_759_999_910),
        ("-2m", 1_759_999_880),
        ("-1h", 1_759_996_400),
        ("-7d", 1_759_395_200),
        ("-1w", 1_759_395_200),
        ("1760000000", 1_760_000_000),
        ("2026-01-31", 1_769_817_600),
        ("2026-01-31T12:00", 1_769_860_800),
        ("2026-01-31T12:00:00Z", 1_769_860_800),
        ("2026-01-31T12:00:00+02:00", 1_769_853_600),
    ],
)
def test_a_time_can_be_written_in_several_ways(text, seconds):
    """Dates and times without a zone are UTC; relative times count back from now."""
    assert seconds_of(text, now=NOW) == seconds


@pytest.mark.parametrize("text", ["", "yesterday", "-1y", "1h", "1760000000000", "2026-13-01", "9" * 30, "-", "²" * 10])
def test_what_is_no_time_is_refused(text):
    """Anything else, milliseconds above all, is refused with what is wanted."""
    with pytest.raises(ValueError, match="a time is wanted"):
        seconds_of(text, now=NOW)
