from __future__ import annotations

import csv
import io

import pytest

from runfold_schemas import RunCompleted, RunCreated, RunFailed, RunInProgress, TokenDetails, Usage

MINUTE = 1_760_000_040  # Unix seconds, the begin of a minute
HOUR = 3600


def usage(prompt: int, completion: int) -> Usage:
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_token_details=TokenDetails(cached_tokens=prompt // 2),
    )


@pytest.fixture(autouse=True)
def store(append, fold):
    """Three ended runs: two of one model, in one minute and an hour later, and one of another that told no usage."""
    events = []
    for run_id, model, end, used in (("a", "m1", 10, usage(100, 10)), ("b", "m1", HOUR, usage(7, 3))):
        told = {"run_id": run_id, "thread_id": "t"}
        at = (MINUTE + end) * 1000
        events += [
            RunCreated(**told, id="1", occurred_at=at - 5000, model=model, metadata={"project_id": "p"}),
            RunInProgress(**told, id="2", occurred_at=at - 3500),
            RunCompleted(**told, id="3", occurred_at=at, usage=used),
        ]
    told = {"run_id": "c", "thread_id": "t"}
    events += [
        RunCreated(**told, id="1", occurred_at=MINUTE * 1000, model="m2"),
        RunFailed(**told, id="2", occurred_at=MINUTE * 1000 + 1),
    ]
    append(events)
    fold()


def test_all_is_summed_into_one_line(cli):
    """Without groups and buckets there is one line: the sums of everything."""
    (line,) = cli("usage", "--json").lines
    assert line == {
        "begin": None,
        "end": None,
        "runs": 3,
        "without_usage": 1,
        "prompt_tokens": 107,
        "cached_tokens": 53,
        "completion_tokens": 13,
        "reasoning_tokens": 0,
        "total_tokens": 120,
        "timed_runs": 2,
        "queue_seconds": 3.0,
        "run_seconds": 7.0,
    }


def test_groups_have_the_names_of_the_field(cli):
    """--by groups, by one or several, each under its own name; unknown is null."""
    lines = cli("usage", "--by", "model,project,status", "--json").lines
    assert [(line["model"], line["project_id"], line["status"], line["runs"]) for line in lines] == [
        ("m1", "p", "completed", 2),
        ("m2", None, "failed", 1),
    ]


@pytest.mark.parametrize("word", ["model", "assistant", "project", "user", "key", "status"])
def test_every_group_adds_up_to_the_whole(cli, word):
    """Whatever usage is grouped by, the lines add up to the same."""
    assert sum(line["runs"] for line in cli("usage", "--by", word, "--json").lines) == 3


@pytest.mark.parametrize(
    ("bucket", "begins", "width"),
    [
        ("minute", [MINUTE, MINUTE + HOUR], 60),
        ("hour", [MINUTE // HOUR * HOUR, MINUTE // HOUR * HOUR + HOUR], HOUR),
        ("day", [MINUTE // 86400 * 86400], 86400),
    ],
)
def test_buckets_are_minutes_hours_and_days(cli, bucket, begins, width):
    """--bucket gives a line for each bucket with usage: half-open, in UTC."""
    lines = cli("usage", "--bucket", bucket, "--json").lines
    assert [(line["begin"], line["end"]) for line in lines] == [(begin, begin + width) for begin in begins]


@pytest.mark.parametrize(
    ("words", "runs"),
    [
        (["--from", str(MINUTE)], 3),
        (["--from", str(MINUTE + 1)], 1),
        (["--until", str(MINUTE)], None),
        (["--until", str(MINUTE + 1)], 2),
        (["--until", str(MINUTE + HOUR)], 2),
        (["--from", str(MINUTE + 60), "--until", str(MINUTE + HOUR + 60)], 1),
        (["--from", "2025-10-09T08:54:00Z", "--until", "2025-10-09T08:55:00Z"], 2),
        (["--from", "-1h"], None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_periods_are_half_open(cli, words, runs):
    """--from is included and --until is not; a minute belongs to the period that it begins in."""
    lines = cli("usage", "--json", *words).lines
    assert [line["runs"] for line in lines] == ([] if runs is None else [runs])


def test_unknown_tokens_and_times_are_null(cli):
    """Where no run told its usage, tokens are null; where no run's times are known, seconds are."""
    line = next(line for line in cli("usage", "--by", "model", "--json").lines if line["model"] == "m2")
    assert line["prompt_tokens"] is line["total_tokens"] is line["run_seconds"] is line["queue_seconds"] is None


def test_csv_has_a_head_and_the_same_numbers(cli):
    """--csv has the columns of --json; unknown is empty."""
    rows = list(csv.DictReader(io.StringIO(cli("usage", "--by", "model", "--csv").out)))
    assert [(row["model"], row["runs"], row["total_tokens"]) for row in rows] == [("m1", "2", "120"), ("m2", "1", "")]


def test_csv_of_nothing_is_its_head(cli):
    """--csv of an empty period still names its columns."""
    assert cli("usage", "--csv", "--until", "2001-02-03").out.startswith("begin,end,runs,")


def test_people_get_a_row_of_totals(cli):
    """The table ends with the totals of what is known."""
    last = cli("usage", "--by", "model").out.splitlines()[-1]
    assert last.split() == ["total", "3", "1", "107", "53", "13", "0", "120", "2", "3.0", "7.0"]


def test_seconds_come_with_the_runs_they_are_of(cli):
    """How many runs the seconds are sums over is told, for --csv too: only those whose times are all known."""
    rows = csv.DictReader(io.StringIO(cli("usage", "--by", "model", "--csv").out))
    assert [(row["runs"], row["timed_runs"]) for row in rows] == [("2", "2"), ("1", "0")]


def test_a_period_that_ends_before_it_begins_is_wrong_use(cli):
    """--from later than --until is refused; the same time twice is a period with nothing in it."""
    answer = cli("usage", "--from", "2025-10-10", "--until", "2025-10-09")
    assert (answer.code, answer.out) == (2, "")
    assert "--from 2025-10-10 00:00:00 is later than --until 2025-10-09 00:00:00" in answer.err
    assert cli("usage", "--json", "--from", "2025-10-09", "--until", "2025-10-09").lines == []


def test_json_and_csv_together_are_wrong_use(cli):
    """Two formats at once are refused."""
    assert cli("usage", "--json", "--csv").code == 2


def test_a_group_that_does_not_exist_is_wrong_use(cli):
    """The groups there are are named where another one was asked for."""
    answer = cli("usage", "--by", "model,colour")
    assert answer.code == 2
    assert "choose from model, assistant, project, user, key, status" in answer.err


@pytest.fixture
def prices(tmp_path, monkeypatch):
    """A price list with a model of the store, which became cheaper between its two runs."""
    path = tmp_path / "prices.csv"
    path.write_text("model,from,input,cached_input,output\nm1,,20000,10000,50000\nm1,2025-10-09T09:00Z,10000,0,10000\n")
    monkeypatch.setenv("RUNFOLD_PRICES", str(path))


def test_costs_are_of_the_price_of_the_minute(cli, prices):
    """--cost adds what each run cost when it ended: exact, null where nothing is known, counted where there is no price."""
    answer = cli("usage", "--by", "model", "--cost", "--json")
    told = [(line["model"], line["cost_usd"], line["without_price"]) for line in answer.lines]
    # First 50 tokens for 1, 50 cached for 0.5, 10 put out for 0.5; later 4 for 0.04, 3 cached for nothing, 3 put out for 0.03.
    assert told == [("m1", 2.07, 0), ("m2", None, 0)]


def test_costs_in_csv_and_table(cli, prices):
    """The same in --csv and for people, with the total."""
    rows = list(csv.DictReader(io.StringIO(cli("usage", "--by", "model", "--cost", "--csv").out)))
    assert [row["cost_usd"] for row in rows] == ["2.07", ""]
    assert cli("usage", "--by", "model", "--cost").out.splitlines()[-1].split()[-2:] == ["2.07", "0"]


def test_the_prices_that_were_used_are_told(cli, prices):
    """On stderr: of which list, since when, how high."""
    told = cli("usage", "--cost", "--json").err
    assert "m1: m1 of prices.csv: USD for a million tokens: 20000 input, 10000 cached, 50000 output" in told
    assert "m1: m1 of prices.csv, from 2025-10-09T09:00Z: USD for a million tokens: 10000 input" in told


def test_a_price_list_that_is_wrong_is_wrong_use(cli, tmp_path, monkeypatch):
    """Exit code 2, naming file and line, before anything is read."""
    (tmp_path / "prices.csv").write_text("model,from,input,cached_input,output\nm1,,-1,,1\n")
    monkeypatch.setenv("RUNFOLD_PRICES", str(tmp_path / "prices.csv"))
    answer = cli("usage", "--cost")
    assert (answer.code, answer.out) == (2, "")
    assert "prices.csv, line 2: input: '-1'" in answer.err


def test_usage_without_costs_has_no_such_columns(cli):
    """Whoever does not ask for costs reads no price list."""
    assert "cost_usd" not in cli("usage", "--csv").out
