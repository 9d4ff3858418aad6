"""Publishing without asyncio: from any thread, and after a fork."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from runfold.log.checking import InvalidEvent
from runfold.log.port import LogUnreachable
from runfold.log.sqlite import SqliteSink, SqliteSource
from runfold.log.sync_publisher import SyncPublisher
from runfold_schemas import codec
from runfold_schemas.events import RunInProgress

FORK = """
import os, sys
from pathlib import Path
from runfold.log.sqlite import SqliteSink
from runfold.log.sync_publisher import SyncPublisher
from runfold_schemas.events import RunInProgress

publisher = SyncPublisher(lambda: SqliteSink(Path(sys.argv[1]), partitions=1), source="shop")

def publish():
    return publisher.publish(RunInProgress(run_id="run_1", thread_id="thread_1"))

publish()
child = os.fork()
if not child:
    publish()
    publisher.close()
    os._exit(0)
_, status = os.waitpid(child, 0)
publish()
publisher.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""


def event(run: str = "run_1") -> RunInProgress:
    return RunInProgress(run_id=run, thread_id="thread_1")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runfold.log.db"


@pytest.fixture
def publisher(path):
    with SyncPublisher(lambda: SqliteSink(path, partitions=1), source="shop") as publisher:
        yield publisher


async def events_of(path) -> list:
    source = SqliteSource(path)
    await source.start()
    try:
        return [
            codec.decode(record.value) async for records in source.read(0, begin=0, end=10**9) for record in records
        ]
    finally:
        await source.close()


def test_publish_returns_the_place(publisher):
    """A call returns where its event stands."""
    assert [publisher.publish(event()).offset for _ in range(3)] == [0, 1, 2]


def test_a_batch_is_published_in_order(publisher):
    """A batch returns its places in order."""
    assert [place.offset for place in publisher.publish_many([event()] * 5)] == list(range(5))


def test_an_invalid_event_is_raised_to_the_caller(publisher):
    """What the asynchronous publisher raises reaches the calling thread."""
    with pytest.raises(InvalidEvent):
        publisher.publish(RunInProgress(run_id="run_1", thread_id=""))


async def test_threads_share_one_publisher(path):
    """Many threads may publish at once: no event is lost, no number used twice."""
    with SyncPublisher(lambda: SqliteSink(path, partitions=1)) as publisher, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: publisher.publish(event()), range(200)))
    assert [one.sequence for one in await events_of(path)] == list(range(1, 201))


def test_the_thread_ends_with_the_publisher(path):
    """After closing no thread is left behind."""
    before = set(threading.enumerate())
    with SyncPublisher(lambda: SqliteSink(path)) as publisher:
        publisher.publish(event())
        begun = set(threading.enumerate()) - before
    for thread in begun:
        thread.join(10)
    assert begun
    assert not any(thread.is_alive() for thread in begun)


def test_a_call_after_closing_opens_anew(path):
    """A publisher that was closed can be used again, under another source name."""
    publisher = SyncPublisher(lambda: SqliteSink(path, partitions=1))
    publisher.publish(event())
    publisher.close()
    assert publisher.publish(event()).offset == 1
    publisher.close()


def test_a_log_that_cannot_be_opened_is_told(tmp_path):
    """The first call raises what opening the log raises, and leaves no thread behind."""
    (tmp_path / "file").touch()
    publisher = SyncPublisher(lambda: SqliteSink(tmp_path / "file" / "log.db"))
    with pytest.raises(LogUnreachable):
        publisher.publish(event())


@pytest.fixture
def forked(path):
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, str(path)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return path


async def test_parent_and_child_both_publish_after_a_fork(forked):
    """After a fork both processes go on publishing into the log."""
    assert len(await events_of(forked)) == 3


async def test_parent_and_child_have_different_sources(forked):
    """The child numbers its events under a name of its own; the parent goes on with its count."""
    first, child, parent = await events_of(forked)
    assert (first.source, first.sequence, parent.sequence, child.sequence) == (parent.source, 1, 2, 1)
    assert child.source != parent.source


async def test_parent_and_child_make_different_ids(forked):
    """Ids stay unique across a fork."""
    assert len({one.id for one in await events_of(forked)}) == 3
