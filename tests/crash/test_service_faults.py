"""What befalls a serving process from outside: its log, its store, its signals. A clear error each, and nothing lost."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from serving import fill, fold_quietly, messages, server, stored, traffic

pytestmark = pytest.mark.usefixtures("collector")


async def refused(folder: Path, *options: str, code: int, **environment: object) -> str:
    """Start a server that has to end by itself with this exit code; what it told people."""
    async with server(folder, **environment) as service:
        await service.start(*options)
        assert await service.ended() == code, service.lines
        assert "Traceback" not in service.text
        return service.text


async def folded(folder: Path) -> None:
    async with server(folder) as service:
        await service.start("--until-end")
        assert await service.ended() == 0


def cut(log: Path, statement: str) -> None:
    with closing(sqlite3.connect(log)) as file, file:
        file.execute(statement)


async def test_it_waits_for_a_log(tmp_path: Path) -> None:
    """Without a log the service waits, and folds what its first publisher writes."""
    async with server(tmp_path) as service:
        await service.start()
        await service.said("waiting_for_log")
        await fill(tmp_path, messages(traffic(100)))
        line = await service.said("batch_committed")
        assert line["records"] == 100
        assert await service.stop() == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_while_waiting_for_a_log(tmp_path: Path, how: signal.Signals) -> None:
    """A service that waits for its log ends at once, and well, when told to."""
    async with server(tmp_path) as service:
        await service.start()
        await service.said("waiting_for_log")
        assert await service.stop(how) == 0


async def test_until_end_waits_for_no_log(tmp_path: Path) -> None:
    """With --until-end a missing log is an error that names the setting."""
    assert "RUNFOLD_LOG" in await refused(tmp_path, "--until-end", code=3)


async def test_a_stop_while_idle(tmp_path: Path) -> None:
    """SIGTERM to an idle service ends it at once, with its partitions given back."""
    await fill(tmp_path, messages(traffic(10)))
    async with server(tmp_path) as service:
        await service.start()
        await service.said("batch_committed")
        begun = asyncio.get_running_loop().time()
        assert await service.stop() == 0
        assert asyncio.get_running_loop().time() - begun < 2
        assert service.events("partitions_released")


async def test_the_next_start_folds_nothing_twice(tmp_path: Path) -> None:
    """After a stop the next start takes the partitions where they stand: tallies add up to the records."""
    written = messages(traffic(400))
    await fill(tmp_path, written[:200])
    await folded(tmp_path)
    await fill(tmp_path, written[200:])
    await folded(tmp_path)
    held = await stored(tmp_path)
    assert held.records == 400
    assert held == await fold_quietly(tmp_path)


async def test_a_store_of_another_log(tmp_path: Path) -> None:
    """A store that belongs to another log is refused, and the remedy is told."""
    await fill(tmp_path / "a", messages(traffic(10)))
    await fill(tmp_path / "b", messages(traffic(10)))
    await folded(tmp_path / "a")
    text = await refused(tmp_path / "b", code=2, store=f"sqlite:///{tmp_path / 'a' / 'runfold.db'}")
    assert "RUNFOLD_STORE" in text


async def test_a_log_made_anew_under_a_living_service(tmp_path: Path) -> None:
    """A log that is deleted and made anew ends the service; the next start refuses it, and names the remedy."""
    log = await fill(tmp_path, messages(traffic(10)))
    async with server(tmp_path) as service:
        await service.start()
        await service.said("batch_committed")
        for name in ("", "-wal", "-shm"):
            log.with_name(log.name + name).unlink(missing_ok=True)
        await fill(tmp_path, messages(traffic(20)))
        assert await service.ended() == 3
        assert "deleted or replaced" in service.text
    assert "RUNFOLD_LOG" in await refused(tmp_path, code=2)


async def test_a_log_written_over_in_place(tmp_path: Path) -> None:
    """A log whose last record becomes another one under an idle service ends it with what was found and the remedy."""
    log = await fill(tmp_path, messages(traffic(10)), partitions=1)
    async with server(tmp_path, lease=1) as service:
        await service.start()
        await service.said("batch_committed")
        cut(log, "UPDATE partition_0 SET value = x'c1'")
        assert await service.ended() == 2
        assert "another record" in service.text
        assert "RUNFOLD_LOG" in service.text


async def test_a_log_shorter_than_the_position(tmp_path: Path) -> None:
    """A log that lacks what the store has folded, as one restored from a backup does, is refused."""
    log = await fill(tmp_path, messages(traffic(10)), partitions=1)
    await folded(tmp_path)
    cut(log, "DELETE FROM partition_0 WHERE offset >= 7")
    assert "nothing" in await refused(tmp_path, code=2)


async def test_a_range_lost_to_retention(tmp_path: Path) -> None:
    """Records that are gone before they were folded end the service with the lost range, never with a jump over it."""
    written = messages(traffic(30))
    log = await fill(tmp_path, written[:10], partitions=1)
    await folded(tmp_path)
    await fill(tmp_path, written[10:])
    cut(log, "DELETE FROM partition_0 WHERE offset < 20")
    text = await refused(tmp_path, code=3)
    assert "10 to 19" in text


async def test_retention_up_to_the_position(tmp_path: Path) -> None:
    """A log whose folded records are gone, and only those, is folded on."""
    written = messages(traffic(30))
    log = await fill(tmp_path, written[:10], partitions=1)
    await folded(tmp_path)
    await fill(tmp_path, written[10:])
    cut(log, "DELETE FROM partition_0 WHERE offset < 10")
    await folded(tmp_path)
    assert (await stored(tmp_path)).records == 30


async def test_two_servers_on_one_store(tmp_path: Path) -> None:
    """A second server of one store is refused with the pid of the first, which serves on."""
    await fill(tmp_path, messages(traffic(10)))
    async with server(tmp_path) as first:
        await first.start()
        await first.said("batch_committed")
        text = await refused(tmp_path, code=2)
        assert str(first.pid) in text
        await fill(tmp_path, messages(traffic(10, seed=8)))
        await first.said("batch_committed")
        assert await first.stop() == 0
