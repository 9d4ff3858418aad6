"""What a PostgreSQL URL says, and what of it is shown."""

from __future__ import annotations

import sys

import pytest

from runfold.config import ConfigError, load_settings, without_password
from runfold.store.port import StoreRefused
from runfold.store.postgres import PostgresStore
from runfold.store.postgres_url import parse_url
from runfold.wiring import open_store


def test_the_plain_url_has_defaults() -> None:
    """Without options: the schema runfold, no pooler, commits of batches that do not wait for the disk."""
    database = parse_url("postgresql://ann@db:5433/runs")
    assert (database.schema, database.pooled, database.synchronous_commit) == ("runfold", False, "off")
    assert database.dsn == "postgresql://ann@db:5433/runs"


def test_our_options_are_kept_from_the_driver() -> None:
    """The driver gets what is its own, and nothing of ours."""
    database = parse_url("postgres://db/runs?schema=shadow&sslmode=require&pooler=transaction&synchronous_commit=on")
    assert database.dsn == "postgresql://db/runs?sslmode=require"
    assert (database.schema, database.pooled, database.synchronous_commit) == ("shadow", True, "on")


def test_the_password_is_never_in_the_place() -> None:
    """What messages and logs name holds no secret."""
    assert "s3cret" not in parse_url("postgresql://ann:s3cret@db/runs?password=s3cret").place


@pytest.mark.parametrize(
    "option", ["schema=Big", "schema=pg_own", "schema=", 'schema=a"b', "pooler=session", "synchronous_commit=maybe"]
)
def test_options_that_cannot_be_are_refused(option: str) -> None:
    """The refusal names the setting, the option, and what is wanted."""
    with pytest.raises(StoreRefused, match=rf"RUNFOLD_STORE.*{option.split('=')[0]}=.*wanted"):
        parse_url(f"postgresql://db/runs?{option}")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann:s3cret@db/runs", "postgresql://ann:********@db/runs"),
        ("postgresql://ann@db/runs?password=s3cret&sslmode=x", "postgresql://ann@db/runs?password=********&sslmode=x"),
        ("postgresql://ann:p@ss/w@db/runs", "postgresql://ann:********@db/runs"),
        ("postgresql://ann@db:5432/runs", "postgresql://ann@db:5432/runs"),
        ("sqlite:///C:/a@b.db", "sqlite:///C:/a@b.db"),
    ],
)
def test_settings_are_shown_without_passwords(url: str, shown: str) -> None:
    """A URL is shown as it is, but for the password in it."""
    assert without_password(url) == shown


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_postgresql_is_a_store(scheme: str) -> None:
    """RUNFOLD_STORE takes a PostgreSQL URL, under either name."""
    store = open_store(load_settings(environment={"RUNFOLD_STORE": f"{scheme}://db/runs?schema=other"}))
    assert isinstance(store, PostgresStore)
    assert store.database.schema == "other"


def test_a_wrong_url_is_told_without_its_password() -> None:
    """The message about a setting that cannot be used shows no secret."""
    with pytest.raises(ConfigError, match=r"RUNFOLD_STORE.*postgresql://user@host") as told:
        load_settings(environment={"RUNFOLD_STORE": "mysql://ann:s3cret@db/runs"})
    assert "s3cret" not in str(told.value)


def test_a_missing_driver_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the setting says what to install; nobody else needs the driver."""
    for name in [name for name in sys.modules if name.startswith("runfold.store.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("runfold.store.postgres", raising=False)
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(ConfigError, match=r"RUNFOLD_STORE.*asyncpg.*runfold\[postgres\]"):
        open_store(load_settings(environment={"RUNFOLD_STORE": "postgresql://db/runs"}))
