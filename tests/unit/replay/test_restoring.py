"""A restored log has every record of the archive, in its partition and order, and nothing else."""

from __future__ import annotations

import pytest
from archives import SMALL, archive_log, make_log, plain, read_all, records_of, started

from runfold.fold.record import StoredRecord
from runfold.log.archive import ArchiveSource
from runfold.log.port import LogError, LogUnreachable, Message, Range
from runfold.log.sqlite import SqliteSink, SqliteSource
from runfold.log.sqlite_restore import SqliteRestorer
from runfold.replay.restoring import restore
from runfold.store.digest import digest
from runfold.store.sqlite import SqliteStore


@pytest.fixture
async def folder(tmp_path):
    """An archive of two partitions, the second of which begins late and has holes."""
    await make_log(tmp_path / "log.db", records_of(250), records_of(30, begin=500, step=3))
    await archive_log(tmp_path / "log.db", tmp_path / "archive")
    return tmp_path / "archive"


@pytest.fixture
def new(tmp_path):
    return tmp_path / "new.db"


async def restored(folder, new, *, resume=False, target=None):
    async with started(ArchiveSource(folder)) as archive:
        return await restore(archive, target or SqliteRestorer(new), lambda: SqliteSource(new), resume=resume)


async def content(log):
    async with started(SqliteSource(log)) as source:
        return [plain(await read_all(source, which, begin=begin)) for which, begin in ((0, 0), (1, 500))]


async def test_a_sqlite_log_is_restored_to_the_offset(folder, new, tmp_path):
    """Restored into SQLite every record stands where it stood, stamped as it was."""
    told = await restored(folder, new)
    assert await content(new) == await content(tmp_path / "log.db")
    assert [(each.records, each.archived, each.restored) for each in told.partitions] == [
        (250, Range(0, 250), Range(0, 250)),
        (30, Range(500, 588), Range(500, 588)),
    ]


async def test_a_store_of_the_restored_log_is_the_same(served, tmp_path, monkeypatch):
    """Folding a restored log gives the store that folding the first one gave."""
    await archive_log(served.log, tmp_path / "archive")
    await restored(tmp_path / "archive", tmp_path / "new.db")
    expected = await served.digest()
    store = SqliteStore(tmp_path / "new_store.db")
    await store.open()
    async with started(SqliteSource(tmp_path / "new.db")) as source:
        with monkeypatch.context() as patch:
            patch.setattr(served, "source", source)
            await served.serve_into(store)
    snapshot = await store.snapshot()
    assert await digest(snapshot) == expected
    await snapshot.close()
    await store.close()


async def test_a_restored_log_is_another_log(folder, new, tmp_path):
    """It has an identity of its own: no store and no archive takes it for the first one."""
    await restored(folder, new)
    async with started(SqliteSource(new)) as source, started(ArchiveSource(folder)) as archive:
        assert await source.identity() != await archive.identity()


async def test_a_log_that_is_not_empty_is_refused(folder, new):
    """What others have written stays alone."""
    await make_log(new, records_of(3), [])
    with pytest.raises(LogError, match=r"not empty: partition 0 has offsets up to 2.*--resume"):
        await restored(folder, new)


async def test_other_partitions_are_refused(folder, new):
    """A log with another number of partitions would split runs."""
    await make_log(new, [], [], [])
    with pytest.raises(LogError, match="the new log has 3 partitions, and the archive has 2"):
        await restored(folder, new)


class Failing(SqliteRestorer):
    """Takes as many lists of records as it is told, then no more."""

    def __init__(self, path, taken):
        super().__init__(path)
        self.taken = taken

    async def write(self, partition, records):
        if not self.taken:
            raise LogUnreachable("the disk is full")
        self.taken -= 1
        await super().write(partition, records)


@pytest.mark.parametrize("taken", range(4))
async def test_a_restore_that_failed_is_resumed(folder, new, tmp_path, taken):
    """Wherever it stopped, it goes on behind what is there, and ends with all of it."""
    with pytest.raises(LogUnreachable):
        await restored(folder, new, target=Failing(new, taken))
    told = await restored(folder, new, resume=True)
    assert sum(each.found for each in told.partitions) == min(taken, 2) * 100 + max(0, taken - 2) * 50
    assert await content(new) == await content(tmp_path / "log.db")


async def test_resuming_what_is_done_changes_nothing(folder, new):
    """All of it is found there."""
    await restored(folder, new)
    before = await content(new)
    told = await restored(folder, new, resume=True)
    assert [each.found for each in told.partitions] == [250, 30]
    assert await content(new) == before


async def test_resuming_something_else_is_refused(folder, new):
    """Where the new log's last record is not the archive's, nothing is written."""
    await make_log(new, [StoredRecord(0, 1, b"x", b"y", ())], [])
    with pytest.raises(LogError, match="partition 0, offset 0: the new log does not have the archive's record there"):
        await restored(folder, new, resume=True)


async def test_a_log_that_others_write_meanwhile_is_refused(folder, new):
    """A publisher that comes in between is found out, by the count at the latest."""

    class Disturbed(SqliteRestorer):
        async def write(self, partition, records):
            await super().write(partition, records)
            if partition == 1:
                await make_log(new, [], [StoredRecord(records[-1].offset + 10, 1, b"x", b"y", ())])

    with pytest.raises(LogError, match="others have written into it"):
        await restored(folder, new, target=Disturbed(new))


async def test_records_that_are_stamped_earlier_are_counted(tmp_path, new):
    """Times that go back are kept, and told of: by time a SQLite log is searched by halving."""
    await make_log(tmp_path / "log.db", [StoredRecord(n, at, b"a", b"b", ()) for n, at in enumerate((5, 9, 7, 8))])
    await archive_log(tmp_path / "log.db", tmp_path / "archive", SMALL)
    assert (await restored(tmp_path / "archive", new)).earlier == 2


async def test_what_is_published_later_follows(folder, new):
    """A restored log is a log: it is published into behind what was restored."""
    await restored(folder, new)
    sink = SqliteSink(new)
    await sink.start()
    (place,) = await sink.append([Message(b"run_1", b"later")])
    await sink.close()
    assert place.offset in (250, 588)
