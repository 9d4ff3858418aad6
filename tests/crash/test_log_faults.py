"""What befalls files: a SQLite log that is gone, full, locked, foreign, cut, or whose writer is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import AsyncExitStack, closing, contextmanager

import pytest

from runfold.log import sqlite_file
from runfold.log.port import LogError, LogMissing, LogUnreachable, Message, RangeLost
from runfold.log.sqlite import SqliteSink, SqliteSource

APPENDER = """
import asyncio, sys
from pathlib import Path
from runfold.log.port import Message
from runfold.log.sqlite import SqliteSink

async def main(path, name, batches):
    sink = SqliteSink(Path(path), partitions=2)
    await sink.start()
    for batch in range(int(batches)):
        values = [f"{name} {batch} {number}" for number in range(20)]
        places = await sink.append([Message(f"run_{number}".encode(), v.encode()) for number, v in enumerate(values)])
        for value, place in zip(values, places):
            print(place.partition, place.offset, value)
        sys.stdout.flush()
    await sink.close()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runfold.log.db"


@pytest.fixture
async def opened(path):
    """Opens sinks and sources, and closes them when the test is over."""
    async with AsyncExitStack() as stack:

        async def open_side(side):
            await side.start()
            stack.push_async_callback(side.close)
            return side

        yield open_side


@pytest.fixture
async def sink(path, opened):
    return await opened(SqliteSink(path, partitions=1))


@pytest.fixture
async def source(path, sink, opened):
    return await opened(SqliteSource(path))


def messages(count: int, size: int = 10) -> list[Message]:
    return [Message(b"run_1", bytes(size))] * count


def appender(path, name: str, batches: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", APPENDER, str(path), name, str(batches)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


async def values_of(source) -> dict[int, list[str]]:
    found = {}
    for which in range(await source.partitions()):
        end = (await source.ranges([which]))[which].end
        lists = [records async for records in source.read(which, begin=0, end=end)]
        found[which] = [record.value.decode() for records in lists for record in records]
    return found


@contextmanager
def unprivileged():
    """As a user who may not do everything: rights on files say nothing to root."""
    if os.geteuid():
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


async def test_a_missing_log_is_named(path):
    """Reading a log that is not there raises LogMissing, which names the setting, the path and the remedy."""
    source = SqliteSource(path)
    with pytest.raises(LogMissing, match=f"RUNFOLD_LOG.*{path.name}.*publish something"):
        await source.start()
    await source.close()


async def test_looking_for_a_log_makes_none(path):
    """Reading never creates the file."""
    source = SqliteSource(path)
    with pytest.raises(LogMissing):
        await source.start()
    await source.close()
    assert not path.exists()


@pytest.mark.parametrize("side", [SqliteSource, SqliteSink])
@pytest.mark.parametrize("content", [b"this is no database, and long enough not to be taken for one" * 20, b""])
async def test_a_file_of_another_kind_is_refused(path, side, content):
    """A file that is no SQLite file, or an empty one, is refused and left alone."""
    path.write_bytes(content)
    opened = side(path)
    with pytest.raises(LogError, match="not a runfold log") as caught:
        await opened.start()
    await opened.close()
    assert (type(caught.value), path.read_bytes()) == (LogError, content)


async def test_a_database_of_somebody_else_is_refused(path, opened):
    """A SQLite file that is no log of ours is refused, and gets no tables of ours."""
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (n)")
    sink = SqliteSink(path)
    with pytest.raises(LogError, match="not a runfold log"):
        await sink.start()
    await sink.close()
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT name FROM sqlite_schema").fetchall() == [("theirs",)]


async def test_a_newer_log_is_refused(path, sink):
    """A log of a newer format is refused with both versions."""
    await sink.close()
    with closing(sqlite3.connect(path)) as file:
        file.execute(f"PRAGMA user_version = {sqlite_file.SCHEMA_VERSION + 1}")
    source = SqliteSource(path)
    with pytest.raises(LogError, match="format 2, this runfold reads 1"):
        await source.start()
    await source.close()


async def test_an_existing_log_keeps_its_partitions(path, sink, opened):
    """The number of partitions is that of the log's making, whatever is asked for later."""
    await opened(SqliteSink(path, partitions=7))
    assert await (await opened(SqliteSource(path))).partitions() == 1


@pytest.mark.parametrize("partitions", [0, 1_001])
def test_an_impossible_number_of_partitions_is_refused(path, partitions):
    """Partitions are 1 to 1,000."""
    with pytest.raises(ValueError, match="partitions"):
        SqliteSink(path, partitions=partitions)


async def test_making_a_log_leaves_one_file(path, sink):
    """The name under which a log is made is gone when it is there."""
    assert {found.name.removeprefix(path.name) for found in path.parent.iterdir()} <= {"", "-wal", "-shm"}


async def test_a_full_disk_is_told_and_writes_nothing(sink, source):
    """When the file may not grow, LogUnreachable says that it is full, and no part of the append is there."""
    await sink.append(messages(1))
    before = await sink._opened.run(lambda file: file.execute("PRAGMA page_count").fetchone()[0])
    await sink._opened.run(lambda file: file.execute(f"PRAGMA max_page_count = {before + 5}").fetchone())
    with pytest.raises(LogUnreachable, match=r"RUNFOLD_LOG.*full"):
        await sink.append(messages(1_000, 1_000))
    assert (await source.ranges([0]))[0].end == 1


async def test_a_log_is_written_on_once_there_is_room(sink):
    """After a full disk the same sink goes on."""
    await sink._opened.run(lambda file: file.execute("PRAGMA max_page_count = 10").fetchone())
    with pytest.raises(LogUnreachable):
        await sink.append(messages(1_000, 1_000))
    await sink._opened.run(lambda file: file.execute("PRAGMA max_page_count = 100000").fetchone())
    assert (await sink.append(messages(1)))[0].offset == 0


async def test_a_locked_log_is_told(path, sink, monkeypatch):
    """When another process keeps the lock, LogUnreachable says so, and nothing is written."""
    await sink._opened.run(lambda file: file.execute("PRAGMA busy_timeout = 10").fetchone())
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LogUnreachable, match="locked"):
            await sink.append(messages(1))
    assert (await sink.append(messages(1)))[0].offset == 0


async def test_a_folder_that_may_not_be_written_is_told(tmp_path):
    """A log that cannot be made for want of rights raises LogUnreachable with the remedy."""
    tmp_path.chmod(0o555)
    sink = SqliteSink(tmp_path / "runfold.log.db")
    try:
        with unprivileged(), pytest.raises(LogUnreachable, match=r"RUNFOLD_LOG.*rights|RUNFOLD_LOG.*writable"):
            await sink.start()
        await sink.close()
    finally:
        tmp_path.chmod(0o755)


async def test_a_file_that_may_not_be_written_is_told(path, sink):
    """A log file without the right to write raises LogUnreachable at the first append at the latest."""
    await sink.close()
    path.chmod(0o444)
    for folder in (path.parent, path.parent.parent, path.parent.parent.parent):
        folder.chmod(0o755)
    path.parent.chmod(0o777)
    other = SqliteSink(path)
    with unprivileged(), pytest.raises(LogUnreachable, match=r"RUNFOLD_LOG.*right"):
        await other.start()
        await other.append(messages(1))
    await other.close()


async def test_a_deleted_log_takes_no_appends(path, sink):
    """An append into a file that was deleted meanwhile is not acknowledged."""
    path.unlink()
    with pytest.raises(LogMissing, match="deleted or replaced"):
        await sink.append(messages(1))


async def test_a_deleted_log_is_not_read_on(path, source):
    """A fetch from a file that was deleted meanwhile raises, and does not wait in vain."""
    source.assign({0: 0})
    path.unlink()
    with pytest.raises(LogMissing, match="deleted or replaced"):
        await source.fetch(most_records=1, most_bytes=1, wait=60)


async def test_a_log_made_anew_has_another_identity(path, sink, source, opened):
    """Deleting the file and making it anew changes the identity that an open source reports."""
    before = await source.identity()
    for name in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
        name.unlink(missing_ok=True)
    await opened(SqliteSink(path))
    after = await source.identity()
    assert (after.topic, after.cluster_id != before.cluster_id) == (before.topic, True)


async def test_the_remains_of_a_deleted_log_are_not_taken_for_a_new_one(path, sink, source):
    """Where only the main file was deleted, making the log anew is refused: its WAL would be replayed into it."""
    await sink.append(messages(1))
    path.unlink()
    other = SqliteSink(path)
    with pytest.raises(LogError, match="-wal is still there"):
        await other.start()
    await other.close()


async def test_a_log_keeps_its_identity_when_renamed(path, sink):
    """Moving the file makes no other log of it."""
    source = SqliteSource(path)
    await source.start()
    before = await source.identity()
    await source.close()
    await sink.close()
    moved = SqliteSource(path.rename(path.with_name("moved.db")))
    await moved.start()
    assert await moved.identity() == before
    await moved.close()


async def test_a_cut_off_beginning_is_told(sink, source):
    """A position below the log's begin raises RangeLost with what is lost, in fetch and in read."""
    await sink.append(messages(10))
    await sink._opened.run(lambda file: file.execute("DELETE FROM partition_0 WHERE offset < 4"))
    source.assign({0: 1})
    with pytest.raises(RangeLost) as caught:
        await source.fetch(most_records=1, most_bytes=1, wait=0)
    assert (caught.value.wanted, caught.value.begin) == (1, 4)
    with pytest.raises(RangeLost):
        await anext(source.read(0, begin=3, end=5))


async def test_a_cancelled_append_is_whole_or_absent(path, sink, source):
    """An append that is cancelled while it waits for the lock is there wholly or not at all."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        appending = asyncio.create_task(sink.append(messages(100)))
        await asyncio.sleep(0)
        appending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await appending
    (place,) = await sink.append(messages(1))
    assert place.offset in (0, 100)


async def test_abandoned_reads_do_not_hold_the_wal(path, sink, source):
    """After a read that was given up and a fetch that was cancelled the whole WAL can be copied and cut."""
    await sink.append(messages(5_000))
    reading = source.read(0, begin=0, end=5_000)
    await anext(reading)
    source.assign({0: 0})
    fetching = asyncio.create_task(source.fetch(most_records=5_000, most_bytes=10**7, wait=0))
    await asyncio.sleep(0)
    fetching.cancel()
    await asyncio.gather(fetching, return_exceptions=True)
    await source.ranges([0])  # stands in line behind the cancelled one
    busy, *_ = await sink._opened.run(lambda file: file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone())
    assert not busy
    await reading.aclose()


async def test_processes_append_at_once(path, opened):
    """Two processes that make and fill one log at once lose nothing and keep each its own order."""
    writers = [appender(path, name, 50) for name in ("one", "two")]
    for writer in writers:
        output, _ = await asyncio.to_thread(writer.communicate, timeout=60)
        assert (writer.returncode, len(output.splitlines())) == (0, 1_000)
    values = await values_of(await opened(SqliteSource(path)))
    assert sum(map(len, values.values())) == 2_000
    for name in ("one", "two"):
        batches = [int(value.split()[1]) for value in values[0] if value.startswith(name)]
        assert batches == sorted(batches)


@pytest.mark.parametrize("lines", [1, 61, 400])
async def test_what_was_acknowledged_survives_a_kill(path, opened, lines):
    """After kill -9 of an appending process the log is readable and has every acknowledged record at its place."""
    writer = appender(path, "killed", 100_000)
    acknowledged = [writer.stdout.readline() for _ in range(lines)]
    writer.send_signal(signal.SIGKILL)
    acknowledged += writer.communicate()[0].splitlines(keepends=True)
    values = await values_of(await opened(SqliteSource(path)))
    whole = [line.rstrip("\n").split(" ", 2) for line in acknowledged if line.endswith("\n")]
    assert len(whole) >= lines
    assert all(values[int(partition)][int(offset)] == value for partition, offset, value in whole)


async def test_a_killed_process_hinders_no_writer(path, opened):
    """After kill -9 of an appending process others append at once."""
    writer = appender(path, "killed", 100_000)
    writer.stdout.readline()
    writer.kill()
    writer.communicate()
    sink = await opened(SqliteSink(path))
    assert len(await sink.append(messages(3))) == 3
