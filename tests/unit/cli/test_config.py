from __future__ import annotations


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
    from runfold import config

    rows = tuple(row._replace(secret=row.name == "log") for row in config.SETTINGS)
    monkeypatch.setattr(config, "SETTINGS", rows)
    answer = cli("config", "--json", "--log", "sqlite:///hidden.db")
    assert told(answer)["log"][0] == "********"
    assert "hidden" not in answer.out
