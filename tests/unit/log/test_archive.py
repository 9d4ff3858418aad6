"""An archive gives back exactly what was put in, and whatever is not as it was written is refused by name."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import shutil
from random import Random

import pytest
from archives import (
    SMALL,
    archive_log,
    archived,
    make_log,
    plain,
    read_all,
    records_of,
    segment_files,
    start_and_close,
    started,
)

from runfold.fold.record import StoredRecord
from runfold.log.archive import ArchiveSource
from runfold.log.archive_folder import MANIFEST, ArchiveBusy, ArchiveFolder
from runfold.log.archive_manifest import ArchiveDamaged, Limits
from runfold.log.archive_segment import GROUP_RECORDS
from runfold.log.archive_writer import ArchiveWriter
from runfold.log.port import LogCutShort, LogError, LogMissing, Range, RangeLost
from runfold.log.sqlite import SqliteSource

ODD = [
    StoredRecord(0, -1, None, None, ()),
    StoredRecord(1, 5, b"", b"", (("h", b""),)),
    StoredRecord(2, 3, b"\xff\x00", bytes(range(256)) * 50, (("h", b"1"), ("h", b"2"))),
    StoredRecord(3, 2**41, b"run_1", b"garbage", (("n", None),)),
    StoredRecord(7, 2**41, b"run_1", b'{"type":"thread.run.of_the_future","run_id":"run_1"}', ()),
]


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log.db"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "archive"


async def test_records_come_back_whole(log, folder):
    """Null keys and values, empty ones, any bytes, headers with null values, and timestamps of any order are kept."""
    await make_log(log, ODD)
    await archive_log(log, folder)
    assert plain(await archived(folder)) == plain(ODD)


async def test_segments_follow_each_other(log, folder):
    """Segments are cut where they are full, and cover every offset between them, also those without a record."""
    await make_log(log, records_of(250, step=3))
    segments = await archive_log(log, folder)
    assert [(each.begin, each.end, each.records) for each in segments] == [
        (0, 298, 100),
        (298, 598, 100),
        (598, 748, 50),
    ]
    assert plain(await archived(folder, begin=299)) == plain(records_of(250, step=3)[100:])


async def test_segments_are_cut_by_bytes(log, folder):
    """A segment ends, too, with the group of rows that makes it large enough."""
    large = [record._replace(value=bytes(9_000_000)) for record in records_of(6)]
    await make_log(log, large)
    segments = await archive_log(log, folder, Limits(bytes=10_000_000))
    assert [each.records for each in segments] == [2, 2, 2]
    assert plain(await archived(folder)) == plain(large)


async def test_archiving_again_adds_what_is_new(log, folder):
    """What is archived is not archived again; without anything new nothing is written."""
    await make_log(log, records_of(150))
    await archive_log(log, folder)
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert await archive_log(log, folder) == []
    assert before == {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    await make_log(log, records_of(10, begin=150))
    assert [(each.begin, each.end) for each in await archive_log(log, folder)] == [(150, 160)]


async def test_one_key_is_found_across_groups_and_segments(log, folder):
    """With a key, read gives that key's records only, in order, wherever they are; of an unknown key none."""
    records = records_of(GROUP_RECORDS * 2 + 10)
    await make_log(log, records)
    await archive_log(log, folder, Limits(records=GROUP_RECORDS + 5_000))
    assert plain(await archived(folder, key=b"run_3")) == plain([each for each in records if each.key == b"run_3"])
    assert await archived(folder, key=b"run_9") == []


async def test_times_that_go_back_are_found(log, folder):
    """The offset for a time is the first that is stamped at or after it, also where others stamped earlier follow."""
    stamps = [10, 30, 20, 40, 15]
    await make_log(log, [StoredRecord(offset, stamp, b"a", b"b", ()) for offset, stamp in enumerate(stamps)])
    await archive_log(log, folder, Limits(records=2))
    async with started(ArchiveSource(folder)) as source:
        found = [(await source.offsets_for_time([0], time))[0] for time in (5, 11, 31, 41)]
    assert found == [0, 1, 3, 5]


async def test_a_log_that_starts_late_is_archived_from_there(log, folder):
    """What the log had lost before the first archive is not of the archive: asking for it says so."""
    await make_log(log, records_of(20, begin=500))
    await archive_log(log, folder)
    async with started(ArchiveSource(folder)) as source:
        assert (await source.ranges([0]))[0] == Range(500, 520)
        with pytest.raises(RangeLost, match="offsets 499 to 499 are gone"):
            await read_all(source, begin=499)
        assert await source.record_at(0, 499) is None


async def test_an_archive_that_grows_is_read_on(log, folder):
    """A source that was open before sees what is archived later."""
    await make_log(log, records_of(10))
    await archive_log(log, folder)
    async with started(ArchiveSource(folder)) as source:
        await make_log(log, records_of(10, begin=10))
        await archive_log(log, folder)
        assert [each.offset for each in await read_all(source)] == list(range(20))


async def test_there_is_no_archive(tmp_path):
    """Reading where there is none names the folder and the remedy, and makes nothing."""
    with pytest.raises(LogMissing, match="nowhere; `runfold replay archive` makes one"):
        await start_and_close(ArchiveSource(tmp_path / "nowhere"))
    assert list(tmp_path.iterdir()) == []


# Damage


@pytest.fixture
async def three(log, folder):
    """An archive of three segments."""
    await make_log(log, records_of(300))
    await archive_log(log, folder)
    return segment_files(folder)


async def test_a_missing_segment_is_named_at_once(three, folder):
    """Without one of its files an archive is not even opened; the message has the file and the offsets."""
    three[1].unlink()
    with pytest.raises(ArchiveDamaged, match=rf"{three[1].name} is missing.*offsets 100 to 199 of partition 0"):
        await start_and_close(ArchiveSource(folder))


async def test_a_truncated_segment_is_named_at_once(three, folder):
    """A file that is shorter than it was is refused before anything is read."""
    os.truncate(three[2], three[2].stat().st_size - 1)
    with pytest.raises(
        ArchiveDamaged, match=rf"{three[2].name} has .* offsets 200 to 299 of partition 0 cannot be read"
    ):
        await start_and_close(ArchiveSource(folder))


@pytest.mark.parametrize("seed", range(8))
async def test_one_flipped_bit_is_found(three, folder, seed):
    """Of a segment with one bit the other way round nothing is given; what stands before it is."""
    place = Random(seed).randrange(three[1].stat().st_size * 8)
    content = bytearray(three[1].read_bytes())
    content[place // 8] ^= 1 << place % 8
    three[1].write_bytes(content)
    async with started(ArchiveSource(folder)) as source:
        given = []
        with pytest.raises(ArchiveDamaged, match=rf"{three[1].name} is not what was written.*offsets 100 to 199"):
            async for records in source.read(0, begin=0, end=300):
                given += records
    assert [each.offset for each in given] == list(range(100))


async def test_a_segment_of_another_archive_is_found(three, folder, log, tmp_path):
    """A file of the same name and size that was written elsewhere is not taken for the one that was lost."""
    other = [each._replace(value=each.value.replace(b"value", b"VALUE")) for each in records_of(300)]
    await make_log(tmp_path / "other.db", other)
    await archive_log(tmp_path / "other.db", tmp_path / "other")
    shutil.copy(segment_files(tmp_path / "other")[0], three[0])
    with pytest.raises(ArchiveDamaged, match=three[0].name):
        await archived(folder)


@pytest.mark.parametrize("damage", ["", "{}", "[1]", "\x00", '{"format":1}'])
async def test_a_manifest_that_is_none_is_named(three, folder, damage):
    """What cannot be read as a manifest is refused with its name."""
    (folder / MANIFEST).write_text(damage)
    with pytest.raises(ArchiveDamaged, match=MANIFEST):
        await start_and_close(ArchiveSource(folder))


async def test_a_manifest_with_a_gap_is_refused(three, folder):
    """Segments that do not follow each other are refused: a reader would pass over what is between them."""
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["segments"][1]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArchiveDamaged, match="offsets 200 to 299 where offset 100 should follow"):
        await start_and_close(ArchiveSource(folder))


async def test_a_newer_format_is_left_alone(three, folder):
    """The archive of a newer runfold is not read as if it were today's."""
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"format": 2}))
    with pytest.raises(LogError, match="format 2, this runfold reads 1"):
        await start_and_close(ArchiveSource(folder))


# Writing on


async def test_another_log_is_not_archived_into_it(three, folder, tmp_path):
    """An archive belongs to one log; both are named."""
    await make_log(tmp_path / "other.db", records_of(1))
    with pytest.raises(LogError, match=r"of the log log\.db .* not of other\.db"):
        await archive_log(tmp_path / "other.db", folder)


async def test_a_gap_is_not_archived_over(three, folder, log, forget):
    """Where the log has forgotten what was never archived, it is said which offsets are lost."""
    await make_log(log, records_of(50, begin=300))
    forget(log, 320)
    with pytest.raises(LogError, match="offsets 300 to 319 are in neither"):
        await archive_log(log, folder)


async def test_a_log_that_is_shorter_is_refused(three, folder, log, forget):
    """A log that ends before its archive does has lost records."""
    forget(log, 290, "offset >= ?")
    with pytest.raises(LogCutShort, match="now ends at 290"):
        await archive_log(log, folder)


async def test_a_log_with_another_record_at_the_seam_is_refused(three, folder, log, forget):
    """The last record archived is compared with the log's before anything is added."""
    forget(log, 299, "offset >= ?")
    await make_log(log, [StoredRecord(299, 1, b"x", b"y", ()), StoredRecord(300, 1, b"x", b"y", ())])
    with pytest.raises(
        LogError, match=rf"partition 0, offset 299: the log has another record there than .*{three[2].name}"
    ):
        await archive_log(log, folder)


async def test_what_a_killed_archiver_left_is_cleared(three, folder, log):
    """Half a segment, and a whole one that the manifest does not name yet, are written anew from the log."""
    listed = (folder / MANIFEST).read_bytes()
    await make_log(log, records_of(50, begin=300))
    await archive_log(log, folder)
    (folder / MANIFEST).write_bytes(listed)
    half = three[0].with_name("00000000000000000300.unfinished")
    half.write_bytes(b"PAR1")
    await make_log(log, records_of(25, begin=350))
    assert [(each.begin, each.end) for each in await archive_log(log, folder)] == [(300, 375)]
    assert not half.exists()
    assert ArchiveFolder(folder).unlisted(ArchiveFolder(folder).load()) == []


async def test_a_file_that_is_not_listed_is_not_thrown_away(three, folder, log, forget):
    """Where the log has it no more, an unlisted segment may be all that is left: nothing is done but to say so."""
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"segments": manifest["segments"][:2]}))
    forget(log, 250)
    with pytest.raises(LogError, match=f"{three[2].name} is not named"):
        await archive_log(log, folder)
    assert three[2].exists()


async def test_nothing_comes_for_too_long(log, folder):
    """A log that gives nothing is an error after the limits' patience, and the archive stays as it was."""
    await make_log(log, records_of(10))

    class Silent(SqliteSource):
        async def read(self, partition, *, begin, end, key=None):
            await asyncio.Event().wait()
            yield []

    async with started(Silent(log)) as source:
        with pytest.raises(LogError, match=r"partition 0: nothing came from the log for 0.05 s"):
            await archive_log(source, folder, Limits(patience=0.05))
    assert ArchiveFolder(folder).load().segments == []
    assert [each.name for each in folder.rglob("*.unfinished")] == []


def hold(folder, held, over):
    with ArchiveWriter(folder).lock():
        held.set()
        over.wait(30)


async def test_two_archivers_of_one_folder(log, folder):
    """While one writes, another is refused, and told the first one's process."""
    await make_log(log, records_of(10))
    context = multiprocessing.get_context("spawn")
    held, over = context.Event(), context.Event()
    other = context.Process(target=hold, args=(folder, held, over))
    other.start()
    try:
        assert held.wait(30)
        with pytest.raises(ArchiveBusy, match=f"process {other.pid} writes the archive"):
            await archive_log(log, folder)
    finally:
        over.set()
        other.join()
    assert len(await archive_log(log, folder)) == 1


async def test_partitions_that_a_topic_grew_by_join(log, folder, monkeypatch):
    """A log with more partitions than before is archived on, the new ones from their begin."""
    await make_log(log, records_of(5), records_of(5))

    class Young(SqliteSource):
        async def partitions(self):
            return 1

    async with started(Young(log)) as source:
        await archive_log(source, folder)
    assert [(each.partition, each.records) for each in await archive_log(log, folder, SMALL)] == [(1, 5)]
    assert plain(await archived(folder, 1)) == plain(records_of(5))
