"""Whatever a log holds, its archive gives it back, from anywhere to anywhere, and its columns can be made."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from archives import archive_log, make_log, plain, started
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runfold.fold.record import StoredRecord
from runfold.log.archive import ArchiveSource
from runfold.log.archive_columns import COUNTS, TEXTS, TIMES, columns_of
from runfold.log.archive_manifest import Limits
from runfold.log.sqlite import SqliteSource

short = st.binary(max_size=40)
headers = st.lists(st.tuples(st.text(max_size=5), st.none() | short), max_size=2)
content = st.tuples(st.integers(-1, 2**45), st.none() | short, st.none() | short, headers)
gaps = st.integers(1, 3)


@st.composite
def logs(draw):
    """Records with offsets that rise and leave holes."""
    offset, records = draw(st.integers(0, 10)) - 1, []
    for gap, (timestamp, key, value, told) in draw(st.lists(st.tuples(gaps, content), max_size=30)):
        offset += gap
        records.append(StoredRecord(offset, timestamp, key, value, tuple(told)))
    return records


async def both_read(records, *, limit, begin, end, key):
    with tempfile.TemporaryDirectory() as folder:
        log, archive = Path(folder, "log.db"), Path(folder, "archive")
        await make_log(log, records)
        await archive_log(log, archive, Limits(records=limit))
        async with started(SqliteSource(log)) as live, started(ArchiveSource(archive)) as source:
            ranges = [(await side.ranges([0]))[0] for side in (live, source)]
            begin = max(begin, ranges[0].begin)
            read = [
                [plain(each) async for each in side.read(0, begin=begin, end=end, key=key)] for side in (live, source)
            ]
        return ranges, [[record for each in lists for record in each] for lists in read]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    records=logs(), limit=st.integers(1, 12), begin=st.integers(0, 50), end=st.integers(0, 100), key=st.none() | short
)
def test_an_archive_reads_as_its_log_does(records, limit, begin, end, key):
    """Any records, cut into segments of any size, read from anywhere to anywhere, of one key or all: as from the log."""
    key = records[0].key if records and begin % 2 else key
    ranges, read = asyncio.run(both_read(records, limit=limit, begin=begin, end=end, key=key))
    assert ranges[0] == ranges[1]
    assert read[0] == read[1]


@settings(max_examples=300, deadline=None)
@given(values=st.lists(st.none() | st.binary(max_size=200), max_size=5))
def test_columns_of_any_bytes(values):
    """No bytes keep an archive from being written: each column has an entry for each value."""
    columns = columns_of(values)
    assert set(columns) == {*TEXTS, *TIMES, *COUNTS}
    assert all(len(column) == len(values) for column in columns.values())
