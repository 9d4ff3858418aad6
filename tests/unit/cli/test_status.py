from __future__ import annotations

import asyncio

import pytest

from runfold import wiring
from runfold.cli.status_report import report
from runfold.log.port import Message
from runfold.store.port import LostRange, Note
from runfold_schemas import RunCompleted, RunCreated, RunInProgress, encode

AT = 1_760_000_000_000


@pytest.fixture
def world(append, fold):
    """One ended run without usage, one without created, one with a gap, and two dead letters; all folded."""
    append(
        [
            RunCreated(run_id="a", thread_id="t", id="1", occurred_at=AT),
            RunCompleted(run_id="a", thread_id="t", id="2", occurred_at=AT + 1),
            RunInProgress(run_id="b", thread_id="t", id="1", occurred_at=AT),
            RunCreated(run_id="c", thread_id="t", id="1", occurred_at=AT, source="s", sequence=1),
            RunInProgress(run_id="c", thread_id="t", id="3", occurred_at=AT, source="s", sequence=3),
            Message(b"a", b"garbage"),
            Message(b"a", encode(RunInProgress(run_id="a", thread_id="t", id="4", occurred_at=5))),
        ]
    )
    fold()


@pytest.mark.usefixtures("world")
def test_status_counts_what_is_odd(cli):
    """Status has runs by status, what is incomplete, missing, flagged, without usage, and letters by reason."""
    answer = cli("status", "--json")
    (told,) = answer.lines
    assert answer.code == 0
    assert told["healthy"] is True
    assert {name: count for name, count in told["runs"].items() if count} == {"in_progress": 2, "completed": 1}
    assert (told["without_created"], told["missing"], told["flagged"], told["without_usage"]) == (1, 1, 2, 1)
    assert told["dead_letters"] == {"clock": 1, "malformed": 1}
    assert sum(part["outcomes"].get("rejected", 0) for part in told["partitions"]) == 2


@pytest.mark.usefixtures("world")
def test_people_see_the_same(cli):
    """Without --json: a line for each partition, the counts, and that all is well."""
    out = cli("status").out
    assert "2 in_progress, 1 completed" in out
    assert "1 clock, 1 malformed" in out
    assert out.splitlines()[-1] == "healthy"


@pytest.mark.usefixtures("world")
def test_records_that_nobody_folds_are_unhealthy(cli, append):
    """Lag without an owner ends with 1; lag is told in records and in seconds."""
    append([RunInProgress(run_id="a", thread_id="t", id="9", occurred_at=AT)])
    answer = cli("status", "--json")
    (told,) = answer.lines
    (behind,) = [part for part in told["partitions"] if part["lag"]]
    assert answer.code == 1
    assert behind["lag"] == 1
    assert 0 <= behind["lag_seconds"] < 60
    assert "start `runfold serve`" in told["unhealthy"][0]


@pytest.mark.usefixtures("world")
def test_records_that_an_owner_leaves_lying_are_unhealthy(settings, append):
    """A record that waits for more than a minute is unhealthy, although somebody owns its partition."""
    append([RunInProgress(run_id="a", thread_id="t", id="9", occurred_at=AT)])

    async def later() -> list[str]:
        source, store = wiring.open_source(settings), wiring.open_store(settings)
        await source.start()
        await store.open()
        try:
            await store.claim("worker", dict.fromkeys(range(settings.partitions), 0), lease=3600)
            now = min(known.lease_until for known in await store.partitions()) - 1
            return (await report(source, store, rules=settings.rules, now=now)).unhealthy
        finally:
            await store.close()
            await source.close()

    (line,) = asyncio.run(later())
    assert "see the logs of worker" in line


@pytest.mark.usefixtures("world")
def test_a_store_of_another_log_is_unhealthy(cli, data, append):
    """A log made anew under the store is named, as serve would refuse it."""
    for path in data.glob("runfold.log.db*"):
        path.unlink()
    append([RunCreated(run_id="a", thread_id="t", id="1", occurred_at=AT)])
    answer = cli("status", "--json")
    assert answer.code == 1
    assert any("belongs to the log" in line for line in answer.lines[0]["unhealthy"])
    assert any("it is another log" in line for line in answer.lines[0]["unhealthy"])


@pytest.mark.usefixtures("world")
def test_status_is_watched(started):
    """--watch goes on looking until it is interrupted."""
    process = started("status", "--watch", "--json", "--every", "0.05")
    assert process.stdout.readline() != b""
    assert process.stdout.readline() != b""


@pytest.mark.usefixtures("world")
def test_status_shows_workers_and_what_was_decided(cli, settings):
    """Workers with their partitions and their silence, takeovers, records set aside, and growth, for people and machines."""

    async def work() -> None:
        store = wiring.open_store(settings)
        await store.open()
        await store.claim("gone", {0: 0}, lease=-1)
        leases = await store.claim("here", dict.fromkeys(range(settings.partitions), 0), lease=60)
        await store.renew("here", leases, lease=60)
        await store.renew("idle", {}, lease=60)
        await store.add_note(Note(partition=0, offset=0, kind="set_aside", reason="it kills", noted_at=AT))
        await store.note_loss(LostRange(partition=1, begin=5, end=8, noticed_at=AT))
        await store.close()

    asyncio.run(work())
    answer = cli("status", "--json")
    (told,) = answer.lines
    here, idle = sorted(told["workers"], key=lambda worker: worker["owner"])
    assert (here["owner"], here["alive"], here["partitions"]) == ("here", True, list(range(settings.partitions)))
    assert (idle["owner"], idle["partitions"]) == ("idle", [])
    assert 0 <= here["silent_seconds"] < 60
    assert [part["takeovers"] for part in told["partitions"]] == [1, 0, 0, 0]
    assert told["set_aside"] == [{"partition": 0, "offset": 0, "reason": "it kills", "noted_at": AT}]
    assert answer.code == 1
    assert "partition 1: offsets 5 to 7 were lost" in told["unhealthy"][0]
    out = cli("status").out
    assert "set aside: partition 0, offset 0: it kills" in out
    assert "idle" in out
