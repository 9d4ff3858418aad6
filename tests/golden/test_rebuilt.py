"""A rebuild gives what serving gave, from every log into every store: recorded runs, and traffic with all that goes wrong."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest
from archives import archive_log
from msgspec.structs import replace
from rebuilds import blemished, commanded, store_of
from run_contract import SHARED
from serving import settings_of

from runfold import wiring
from runfold.capture import Captured, capture
from runfold.config import Settings
from runfold.log.archive_manifest import Limits
from runfold.log.port import Message
from runfold.service.serve import serve
from runfold_schemas import encode

pytestmark = pytest.mark.usefixtures("collector")


FROM = (*sorted(wiring.LOGS), "archive and tail")


@pytest.fixture(params=[(log, store) for log in FROM for store in sorted(wiring.SHADOWS)], ids="-".join)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    log, store = request.param
    url = None if store == "sqlite" else request.getfixturevalue("postgres_url")
    places = {"store": store_of(tmp_path, url), "partitions": 4}
    if log == "archive and tail":
        places["archive"] = f"archive:///{tmp_path}/archive"
    if log == "kafka":
        topic = request.getfixturevalue("make_topic")(partitions=4)
        places["log"] = f"kafka://{topic.servers}/{topic.topic}"
    return settings_of(tmp_path, **places)


@pytest.fixture
def rebuilt_from(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """The same with the log that a rebuild reads, which is an archive where that is asked for."""
    log, _ = request.node.callspec.params["settings"]
    return replace(settings, log=f"archive:///{settings.data}/archive") if log == "archive" else settings


async def archived(settings: Settings, rebuilt_from: Settings, *, most: int) -> None:
    """Archive what the embedded log has, where that is read again; with a tail, the log then loses most of it."""
    if rebuilt_from.log == settings.log and not settings.archive:
        return
    log = settings.data / "runfold.log.db"
    await archive_log(log, settings.data / "archive", Limits(records=most // 8))
    if settings.archive:
        with closing(sqlite3.connect(log)) as db, db:
            for which in range(4):
                db.execute(
                    f"delete from partition_{which} where offset < (select max(offset) - 3 from partition_{which})"
                )


async def served(settings: Settings, messages: Iterable[Message]) -> None:
    """The store after these records, folded by the service."""
    sink = wiring.open_sink(settings)
    await sink.start()
    left = iter(messages)
    while some := list(islice(left, 5_000)):
        await sink.append(some)
    await sink.close()
    source, store = wiring.open_source(settings), wiring.open_store(settings)
    await serve(settings, source, store, until_end=True, stop=asyncio.Event())


async def tallied(settings: Settings) -> dict[str, int]:
    store = wiring.open_store(settings)
    await store.open(write=False)
    found: dict[str, int] = {}
    for status in await store.partitions():
        for outcome, count in status.tally.items():
            found[outcome] = found.get(outcome, 0) + count
    await store.close()
    return found


async def check_rebuilt(settings: Settings, rebuilt_from: Settings) -> None:
    """The same digest of every partition and of usage, and the same counts of what became of the records."""
    before = await tallied(settings)
    if rebuilt_from.log != settings.log:
        await archive_log(settings.data / "runfold.log.db", settings.data / "archive")
    words = (
        "replay",
        "rebuild",
        "--switch",
        "--yes",
        "--json",
        "--processes",
        "2",
        "--archive",
        settings.archive or "",
    )
    code, found, told = await commanded(rebuilt_from, *words)
    assert (code, found and found["identical"], found and found["switched"]) == (0, True, True), told
    assert found["comparison"]["live"] == found["comparison"]["rebuilt"]
    assert await tallied(settings) == before


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no recorded Runs at {SHARED}: set RUNFOLD_SHARED")
async def test_recorded_runs(settings: Settings, rebuilt_from: Settings) -> None:
    """What was recorded from the real service, polled and streamed, comes to the same store again."""
    messages = []
    for path in sorted((SHARED / "data").glob("*/recorded__*")):
        for found in capture([str(path)], "sse" if path.suffix == ".sse" else "runs"):
            if isinstance(found, Captured):
                messages += [Message(event.run_id.encode(), encode(event)) for event in found.events]
    assert len(messages) > 100
    await served(settings, messages[: len(messages) // 2])
    await archived(settings, rebuilt_from, most=100)
    await served(settings, messages[len(messages) // 2 :])
    await check_rebuilt(settings, rebuilt_from)


@pytest.mark.parametrize("count", [50_000, pytest.param(1_000_000, marks=pytest.mark.faults)])
@pytest.mark.timeout(3_600)
async def test_traffic_with_blemishes(settings: Settings, rebuilt_from: Settings, count: int) -> None:
    """Repeated, missing, late, broken and unknown records, second ends and corrections: the same store again."""
    messages = blemished(count)
    await served(settings, islice(messages, count // 2))
    await archived(settings, rebuilt_from, most=count)
    await served(settings, messages)
    outcomes = await tallied(settings)
    assert {"applied", "duplicate", "rejected", "late"} <= outcomes.keys()
    await check_rebuilt(settings, rebuilt_from)
