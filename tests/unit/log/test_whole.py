"""An archive and the log it was made from are one log, or none."""

from __future__ import annotations

import pytest
from archives import archive_log, make_log, plain, read_all, records_of, start_and_close, started

from runfold.fold.record import StoredRecord
from runfold.log.archive import ArchiveSource
from runfold.log.port import LogCutShort, LogError, Range, RangeLost
from runfold.log.sqlite import SqliteSource
from runfold.log.whole import WholeLog

RECORDS = records_of(300)


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log.db"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "archive"


@pytest.fixture
async def both(log, folder):
    """A log of 300 records, of which the first 200 are archived."""
    await make_log(log, RECORDS[:200])
    await archive_log(log, folder)
    await make_log(log, RECORDS[200:])
    return log


def whole(log, folder):
    return WholeLog(ArchiveSource(folder), SqliteSource(log), where=folder)


@pytest.mark.parametrize("kept", [0, 50, 199, 200])
async def test_the_archive_reaches_back_behind_the_log(both, folder, forget, kept):
    """Whatever the log has forgotten of what is archived, every record is read, once and in order."""
    forget(both, kept)
    async with started(whole(both, folder)) as source:
        assert (await source.ranges([0]))[0] == Range(0, 300)
        assert plain(await read_all(source)) == plain(RECORDS)
        assert plain(await read_all(source, begin=120, key=b"run_2")) == plain(
            [each for each in RECORDS[120:] if each.key == b"run_2"]
        )
        assert plain([await source.record_at(0, 30), await source.record_at(0, 260)]) == plain(
            [RECORDS[30], RECORDS[260]]
        )


async def test_times_are_found_on_both_sides(both, folder, forget):
    """The offset for a time lies in the archive or in the log."""
    forget(both, 150)
    async with started(whole(both, folder)) as source:
        asked = (0, 120, 250)
        found = [(await source.offsets_for_time([0], RECORDS[offset].timestamp))[0] for offset in asked]
    assert found == [*asked]


async def test_fetching_goes_over_the_seam(both, folder, forget):
    """An assignment that begins in the archive ends in the log, without a record lost or given twice."""
    forget(both, 180)
    async with started(whole(both, folder)) as source:
        source.assign({0: 10})
        found = []
        while source.position(0) < 300:
            for records in (await source.fetch(most_records=33, most_bytes=10**6, wait=1)).values():
                found += records
    assert plain(found) == plain(RECORDS[10:])


async def test_a_log_that_forgets_while_it_is_read(both, folder, forget):
    """What the log forgets under a reader's hands is gone on with from the archive."""
    async with started(whole(both, folder)) as source:
        source.assign({0: 0})
        found = [*(await source.fetch(most_records=10, most_bytes=10**6, wait=1))[0]]
        forget(both, 150)
        while source.position(0) < 300:
            for records in (await source.fetch(most_records=1_000, most_bytes=10**6, wait=1)).values():
                found += records
    assert plain(found) == plain(RECORDS)


async def test_a_gap_is_refused(both, folder, forget):
    """What is in neither is named: folder, partition and offsets."""
    forget(both, 201)
    with pytest.raises(
        LogError, match=rf"partition 0: the archive {folder} ends at offset 200.* offsets 200 to 200 are in"
    ):
        await start_and_close(whole(both, folder))


async def test_a_gap_that_comes_to_be_is_refused(both, folder, forget):
    """A log that forgets what is not archived yet, under a reader's hands, is refused as well."""
    async with started(whole(both, folder)) as source:
        forget(both, 250)
        with pytest.raises(LogError, match="offsets 200 to 249 are in neither"):
            await read_all(source)


async def test_what_neither_ever_had(log, folder, forget):
    """Below the archive's begin a range is lost, as in any log."""
    await make_log(log, records_of(50, begin=100))
    await archive_log(log, folder)
    forget(log, 120)
    async with started(whole(log, folder)) as source:
        with pytest.raises(RangeLost, match="offsets 99 to 99"):
            await read_all(source, begin=99)
        source.assign({0: 99})
        with pytest.raises(RangeLost, match="offsets 99 to 99"):
            await source.fetch(most_records=1, most_bytes=1, wait=0)


async def test_another_logs_archive_is_refused(both, folder, tmp_path):
    """An archive of another log is named beside the log."""
    await make_log(tmp_path / "other.db", RECORDS)
    with pytest.raises(LogError, match=r"archive of log\.db .* RUNFOLD_LOG is other\.db"):
        await start_and_close(whole(tmp_path / "other.db", folder))


async def test_another_record_at_the_seam_is_refused(both, folder, forget):
    """Where both have the archive's last record and it is not the same, file and offset are named."""
    forget(both, 199, "offset >= ?")
    await make_log(both, [StoredRecord(199, 1, b"x", b"y", ()), StoredRecord(200, 1, b"x", b"y", ())])
    with pytest.raises(
        LogError, match=r"partition 0, offset 199: the log has another record there than .*100-0+200\.parquet"
    ):
        await start_and_close(whole(both, folder))


async def test_a_log_that_ends_before_its_archive(both, folder, forget):
    """A log that has lost records that are archived is not taken for the whole of it."""
    forget(both, 150, "offset >= ?")
    with pytest.raises(LogCutShort, match="now ends at 150"):
        await start_and_close(whole(both, folder))
