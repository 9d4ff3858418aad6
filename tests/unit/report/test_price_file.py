"""One's own price list."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from runfold.config import ConfigError
from runfold.report.price_file import PriceFile, read_price_file

HEAD = "model,from,input,cached_input,output\n"
MARCH = 29_538_720  # 2026-03-01T00:00Z


def listed(tmp_path: Path, text: str, *, head: str = HEAD) -> PriceFile:
    path = tmp_path / "prices.csv"
    path.write_text(head + text)
    return read_price_file(path)


def test_a_price_is_valid_from_its_time_on(tmp_path: Path) -> None:
    """The price of a minute is the last one that began before or with it."""
    prices = listed(tmp_path, "m,2026-03-01,2,1,8\n# agreed in May\n\nm,,2.50,1.25,10\n")
    inputs = [prices.price("m", minute).input for minute in (0, MARCH - 1, MARCH, MARCH + 99_999)]
    assert inputs == [Decimal("2.5"), Decimal("2.5"), Decimal(2), Decimal(2)]
    assert prices.changes(0, 1 << 40) == {MARCH}


def test_before_its_first_time_a_model_has_no_price(tmp_path: Path) -> None:
    """The file knows the model, and yet has no price for then."""
    prices = listed(tmp_path, "m,2026-03-01,2,1,8\n")
    assert prices.price("m", MARCH - 1) is None
    assert prices.knows("m")
    assert not prices.knows("M")


def test_cached_input_costs_what_input_does_unless_told(tmp_path: Path) -> None:
    """An empty cell is no price of 0."""
    prices = listed(tmp_path, "m,,2,,8\nn,,2,0,8\n")
    assert (prices.price("m", 0).cached_input, prices.price("n", 0).cached_input) == (2, 0)


def test_times_may_have_a_zone(tmp_path: Path) -> None:
    """Without one they are UTC."""
    assert listed(tmp_path, "m,2026-03-01T01:00+01:00,2,1,8\n").changes(0, 1 << 40) == {MARCH}


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("m,,2,1", "5 cells are wanted, there are 4"),
        (",,2,1,8", "model: a name is wanted"),
        ("m,,two,1,8", "input: 'two'"),
        ("m,,-1,1,8", "input: '-1'"),
        ("m,,1,nan,8", "cached_input: 'nan'"),
        ("m,,1,1,inf", "output: 'inf'"),
        ("m,,1,1,", "output: ''"),
        ("m,,0.1234567,1,8", "six|6 decimals at most"),
        ("m,,10000001,1,8", "input: '10000001'"),
        ("m,yesterday,1,1,8", "from: 'yesterday'"),
        ("m,2026-03-01T00:00:30,1,1,8", "to the minute"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, row: str, told: str) -> None:
    """File, line, cell and what is wanted; the lines that are right do not hide it."""
    with pytest.raises(ConfigError, match=rf"RUNFOLD_PRICES: \S+prices.csv, line 3: .*({told})"):
        listed(tmp_path, f"fine,,1,1,1\n{row}\n")


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    """One line for each."""
    with pytest.raises(ConfigError) as raised:
        listed(tmp_path, "m,,x,1,8\nm,,1,1,8\nm,,2,1,8\n")
    assert [line.split(": ")[1].split(", ")[1] for line in str(raised.value).splitlines()] == ["line 2", "line 4"]


@pytest.mark.parametrize("head", ["", "model,input,output\n", "\n# prices\n\nmodel;from;input;cached_input;output\n"])
def test_other_columns_are_refused(tmp_path: Path, head: str) -> None:
    """The columns that are wanted are named."""
    with pytest.raises(ConfigError, match="the columns model,from,input,cached_input,output are wanted"):
        listed(tmp_path, "", head=head)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing, a folder, or no text."""
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    for name in ("missing.csv", "", "bytes.csv"):
        with pytest.raises(ConfigError, match=r"RUNFOLD_PRICES: .* cannot be read: "):
            read_price_file(tmp_path / name)
