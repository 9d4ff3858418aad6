from __future__ import annotations

import pytest

from runfold.cli.when import milliseconds_of

NOW = 1_760_000_000.75


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("now", 1_760_000_000_750),
        ("-90s", 1_759_999_910_750),
        ("-2m", 1_759_999_880_750),
        ("-1h", 1_759_996_400_750),
        ("-7d", 1_759_395_200_750),
        ("-1w", 1_759_395_200_750),
        ("1760000000", 1_760_000_000_000),
        ("2026-01-31", 1_769_817_600_000),
        ("2026-01-31T12:00", 1_769_860_800_000),
        ("2026-01-31T12:00:00.25", 1_769_860_800_250),
        ("2026-01-31T12:00:00Z", 1_769_860_800_000),
        ("2026-01-31T12:00:00+02:00", 1_769_853_600_000),
    ],
)
def test_a_time_can_be_written_in_several_ways(text, milliseconds):
    """Dates and times without a zone are UTC; relative times count back from now."""
    assert milliseconds_of(text, now=NOW) == milliseconds


@pytest.mark.parametrize("text", ["", "yesterday", "-1y", "1h", "1760000000000", "2026-13-01", "9" * 30, "-", "²" * 10])
def test_what_is_no_time_is_refused(text):
    """Anything else, milliseconds above all, is refused with what is wanted."""
    with pytest.raises(ValueError, match="a time is wanted"):
        milliseconds_of(text, now=NOW)
