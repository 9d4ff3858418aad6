from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

import runfold
from runfold.config import ConfigError
from runfold.log.sqlite import SqliteSource
from runfold_schemas import RunInProgress, RunModified, decode


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    """No setting comes from outside."""
    for name in [name for name in os.environ if name.startswith("RUNFOLD_")]:
        monkeypatch.delenv(name)


async def events_of(path):
    source = SqliteSource(path)
    await source.start()
    try:
        ranges = await source.ranges(range(await source.partitions()))
        return [
            decode(record.value)
            for which, held in ranges.items()
            async for records in source.read(which, begin=held.begin, end=held.end)
            for record in records
        ]
    finally:
        await source.close()


async def test_an_event_is_published_in_a_line(tmp_path):
    """With a URL and an event, the log has it, complete and under the source's name."""
    async with runfold.open_publisher(f"sqlite:///{tmp_path}/log.db", source="shop") as publisher:
        place = await publisher.publish(RunInProgress(run_id="r", thread_id="t"))
    (event,) = await events_of(tmp_path / "log.db")
    assert place.offset == 0
    assert (event.run_id, event.sequence, event.source.split(".")[0]) == ("r", 1, "shop")


def test_an_event_is_published_without_asyncio(tmp_path):
    """The synchronous face does the same."""
    with runfold.open_sync_publisher(f"sqlite:///{tmp_path}/log.db") as publisher:
        publisher.publish(RunInProgress(run_id="r", thread_id="t"))
    assert len(asyncio.run(events_of(tmp_path / "log.db"))) == 1


async def test_without_a_url_the_settings_say_where(tmp_path, monkeypatch):
    """RUNFOLD_LOG says where events go that are published without a URL."""
    monkeypatch.setenv("RUNFOLD_LOG", f"sqlite:///{tmp_path}/named.db")
    async with runfold.open_publisher() as publisher:
        await publisher.publish(RunInProgress(run_id="r", thread_id="t"))
    assert (tmp_path / "named.db").exists()


@pytest.mark.parametrize("size", [1_500, 1_500_000])
def test_the_settings_say_how_large_an_event_may_be(tmp_path, monkeypatch, size):
    """RUNFOLD_LARGEST_VALUE is the limit of publishers too, below the default and above it."""
    monkeypatch.setenv("RUNFOLD_LARGEST_VALUE", str(size))
    with runfold.open_sync_publisher(f"sqlite:///{tmp_path}/log.db") as publisher:
        publisher.publish(RunModified(run_id="r", thread_id="t", metadata={"a": "x" * (size - 300)}))
        with pytest.raises(runfold.InvalidEvent, match="bytes"):
            publisher.publish(RunModified(run_id="r", thread_id="t", metadata={"a": "x" * size}))


async def test_an_application_may_set_the_limit_itself(tmp_path):
    """What an application says goes before the settings."""
    async with runfold.open_publisher(f"sqlite:///{tmp_path}/log.db", largest_value=1_000) as publisher:
        with pytest.raises(runfold.InvalidEvent, match="at most 1,000"):
            await publisher.publish(RunModified(run_id="r", thread_id="t", metadata={"a": "x" * 1_000}))


def test_a_wrong_url_is_told_at_once():
    """A URL that no log has is refused when the publisher is made, naming the setting."""
    with pytest.raises(ConfigError, match="RUNFOLD_LOG"):
        runfold.open_publisher("ftp://host/topic")


@pytest.mark.parametrize("name", runfold.__all__)
def test_each_name_is_there(name):
    """Every name that runfold offers can be imported from it."""
    assert getattr(runfold, name) is not None


def test_another_name_is_not_there():
    """A name that runfold does not offer raises what Python expects."""
    with pytest.raises(AttributeError, match="nothing_like_it"):
        runfold.nothing_like_it  # noqa: B018


def test_importing_runfold_costs_nothing():
    """Importing runfold alone imports none of its rooms."""
    code = (
        "import runfold, sys; sys.exit(any(name.startswith('runfold.') or name == 'msgspec' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
