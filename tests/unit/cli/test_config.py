from __future__ import annotations

import pytest

from runfold import config


def told(answer):
    return {line["name"]: (line["value"], line["origin"]) for line in answer.lines}


def test_each_setting_says_where_it_came_from(cli, monkeypatch):
    """The command line goes before the environment, and that before the default."""
    monkeypatch.setenv("RUNFOLD_LEASE", "20")
    monkeypatch.setenv("RUNFOLD_LOG", "sqlite:///env.db")
    settings = told(cli("config", "--json", "--log", "sqlite:///given.db"))
    assert settings["log"] == ("sqlite:///given.db", "command line")
    assert settings["lease"] == ("20.0", "environment")
    assert settings["drain"] == ("10.0", "default")


def test_log_and_store_follow_the_data_folder(cli):
    """Where neither URL is given, both files are in the data folder."""
    settings = told(cli("config", "--json", "--data", "/srv/x"))
    assert settings["log"][0] == "sqlite:////srv/x/runfold.log.db"
    assert settings["store"][0] == "sqlite:////srv/x/runfold.db"


def test_people_see_what_each_setting_is_for(cli):
    """Without --json: variable, value, origin and purpose."""
    assert "seconds that stopping may take" in cli("config").out


def test_secrets_are_masked(cli, monkeypatch):
    """A secret's value is shown to nobody."""
    rows = tuple(row._replace(secret=row.name == "log") for row in config.SETTINGS)
    monkeypatch.setattr(config, "SETTINGS", rows)
    answer = cli("config", "--json", "--log", "sqlite:///hidden.db")
    assert told(answer)["log"][0] == "********"
    assert "hidden" not in answer.out


def test_environment_file_tells_nothing_of_what_is_set(cli, monkeypatch):
    """Every setting at its default, whatever the environment says, be it wrong: no secret gets into a file that way."""
    quiet = cli("config", "--env-file")
    monkeypatch.setenv("RUNFOLD_KAFKA_SASL_PASSWORD", "hidden")
    monkeypatch.setenv("RUNFOLD_LEASE", "wrong")
    assert cli("config", "--env-file") == quiet
    assert quiet.code == 0
    assert all(f"#{setting.variable}={setting.default}\n" in quiet.out for setting in config.SETTINGS)


def test_environment_file_and_json_exclude_each_other(cli):
    """One of two ways to print is asked for."""
    assert cli("config", "--env-file", "--json").code == 2


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("RUNFOLD_PARTITIONS", "1001"),
        ("RUNFOLD_PARTITIONS", "²"),
        ("RUNFOLD_PARTITIONS", "٣"),
        ("RUNFOLD_PARTITIONS", "9" * 5000),
        ("RUNFOLD_LEASE", "٣"),
        ("RUNFOLD_LEASE", "nan"),
        ("RUNFOLD_MOST_EVENTS", "49901"),
        ("RUNFOLD_LARGEST_VALUE", "16777217"),
    ],
    ids=lambda text: text[:20],
)
def test_a_number_out_of_bounds_is_told_in_our_words(cli, monkeypatch, variable, text):
    """What is no number in ASCII digits, or beyond what log and fold take, is told with the bounds."""
    monkeypatch.setenv(variable, text)
    answer = cli("config")
    assert answer.code == 2
    assert variable in answer.err
    assert answer.err.rstrip().endswith(("is wanted", "are wanted"))


@pytest.mark.parametrize(
    ("variable", "text"),
    [("RUNFOLD_PARTITIONS", "1000"), ("RUNFOLD_MOST_EVENTS", "49_900"), ("RUNFOLD_LARGEST_VALUE", "16777216")],
)
def test_a_bound_itself_is_taken(cli, monkeypatch, variable, text):
    """The bounds that are told are themselves taken."""
    monkeypatch.setenv(variable, text)
    assert cli("config").code == 0


def test_rules_that_the_fold_refuses_join_the_problems(monkeypatch):
    """What the fold's settings cannot be together is told with all else that is wrong."""
    rows = tuple(row._replace(parse=int) if row.name == "rules.most_events" else row for row in config.SETTINGS)
    monkeypatch.setattr(config, "SETTINGS", rows)
    with pytest.raises(config.ConfigError, match=r"RUNFOLD_LEASE(.|\n)*RUNFOLD_MOST_EVENTS.*most_corrections"):
        config.load_settings(environment={"RUNFOLD_MOST_EVENTS": "60000", "RUNFOLD_LEASE": "x"})


def test_the_schemes_that_this_version_knows_are_told(cli, monkeypatch):
    """A URL of another scheme is refused naming those that there are."""
    monkeypatch.setenv("RUNFOLD_LOG", "pulsar://host:6650/topic")
    answer = cli("config")
    assert answer.code == 2
    assert "this version knows no pulsar://, only sqlite:///" in answer.err


@pytest.mark.parametrize("variable", ["RUNFOLD_LEASES", "RUNFOLD_SHARED", "RUNFOLD_TEST_POSTGRES"])
def test_a_variable_that_is_no_setting_is_a_problem(cli, monkeypatch, variable):
    """Whatever begins as our variables do, and is none of them, is told: it may be a setting misspelt."""
    monkeypatch.setenv(variable, "1")
    answer = cli("config")
    assert (answer.code, answer.err.split(":")[1]) == (2, f" {variable}")
