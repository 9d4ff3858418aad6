"""What befalls a topic: partitions that are added, records that are gone before they were folded. Told, decided, recorded."""

from __future__ import annotations

import asyncio
import json

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewPartitions
from worlds import World, written

from runfold.cli.exits import run

pytestmark = pytest.mark.usefixtures("collector")


@pytest.fixture(params=["sqlite", "postgresql"])
async def world(request, topic, postgres_url, tmp_path):
    """A topic of four partitions in Kafka, and a store of either kind."""
    store = postgres_url if request.param == "postgresql" else ""
    made = World(tmp_path, topic=topic, store=store, batch_records=200, lease=1)
    yield made
    await made.close()


@pytest.fixture
def command(world, monkeypatch, capfd):
    """Runs the command on the world; its exit code and what it printed."""
    monkeypatch.setenv("RUNFOLD_DATA", str(world.folder))
    for name, value in world.environment.items():
        monkeypatch.setenv(f"RUNFOLD_{name.upper()}", str(value))

    async def call(*words):
        capfd.readouterr()
        code = await asyncio.to_thread(run, words)
        return code, capfd.readouterr()

    return call


async def folded(world: World, *options: str) -> None:
    service = await world.serve("--until-end", *options)
    assert (await service.ended(), service.text) == (0, "")


def grow(admin, topic, *, partitions: int) -> None:
    admin.create_partitions([NewPartitions(topic.topic, partitions)])[topic.topic].result(30)


async def test_added_partitions_are_refused_until_they_are_accepted(world, topic, admin, command):
    """A living service ends and the next refuses: both name the open runs and the remedy. Accepted, all is folded."""
    await world.write(written(1_000))
    living = await world.serve()
    await world.make()
    await world.folded(1_000)
    grow(admin, topic, partitions=6)
    assert await living.ended() == 2
    service = await world.serve()
    assert await service.ended() == 2
    for text in (living.text, service.text):
        assert "open runs may split" in text
        assert "from 4 to 6 partitions" in text
        assert "runfold store accept-growth" in text
        assert "copy the log to a new topic" in text
    code, told = await command("status", "--json")
    assert code == 1
    assert any("from 4 to 6" in line for line in json.loads(told.out)["unhealthy"])
    code, told = await command("store", "accept-growth", "--yes", "--json")
    assert code == 0
    assert json.loads(told.out)["open_runs"] > 0
    await world.write(written(1_000, seed=8))
    await folded(world)
    assert await world.held() == await world.quiet()
    code, told = await command("status")
    assert (code, "grown: from 4 to 6 partitions" in told.out) == (0, True)
    assert (await command("replay", "verify"))[0] == 0


async def test_growth_that_is_none_is_not_accepted(world, command):
    """Where the log has the partitions that are expected, accepting is answered with no."""
    await world.write(written(10))
    await folded(world)
    assert (await command("store", "accept-growth", "--yes"))[0] == 1


def lose(admin, topic, ends: dict[int, int]) -> None:
    """Take away all records below these offsets, as retention does."""
    places = [TopicPartition(topic.topic, which, end) for which, end in ends.items()]
    for done in admin.delete_records(places).values():
        done.result(30)


async def test_a_lost_range_is_an_incident_until_it_is_accepted(world, topic, admin, command):
    """Serve names it and ends; status is unhealthy; accepted, serve goes on behind it, and what it touched is unverifiable."""
    first, second = written(1_000)[:600], written(1_000)[600:]
    await world.write(first)
    await folded(world)
    before = {each.partition: each.position for each in await world.look()}
    await world.write(second)
    ends = {which: position + 50 for which, position in before.items()}
    lose(admin, topic, ends)
    service = await world.serve()
    assert await service.ended() == 3
    assert "--accept-loss" in service.text
    code, told = await command("status", "--json")
    status = json.loads(told.out)
    assert code == 1
    assert sum("are gone from the log" in line for line in status["unhealthy"]) == 4
    assert [lost["accepted_at"] for lost in status["lost_ranges"]] == [None] * 4
    await folded(world, "--accept-loss")
    found = await world.of_store(lambda store: store.lost_ranges())
    assert {lost.partition: (lost.begin, lost.end) for lost in found} == {
        partition: (before[partition], ends[partition]) for partition in before
    }
    assert all(lost.accepted_at for lost in found)
    code, told = await command("status")
    assert (code, told.out.count("lost range: partition")) == (0, 4)
    code, told = await command("replay", "verify", "--json")
    assert code == 0
    assert json.loads(told.out)["unverifiable"] > 0


async def test_a_range_lost_under_a_living_service_is_gone_on_behind(world, topic, admin):
    """With --accept-loss a service that retention overtakes goes on, and has recorded it."""
    await world.write(written(100))
    service = await world.serve("--accept-loss")
    await world.make()
    await world.folded(100)
    assert await service.stop() == 0
    await world.write(written(400, seed=8))
    positions = {each.partition: each.position for each in await world.look()}
    lose(admin, topic, {which: position + 20 for which, position in positions.items()})
    service = await world.serve("--accept-loss", "--workers", "2")
    await world.folded(500 - 80)
    assert await service.stop() == 0
    assert len(await world.of_store(lambda store: store.lost_ranges())) == 4
    assert {line["worker"] for line in service.events("loss_accepted")} <= {1, 2}
