"""The recorded Runs, archived: a store of them is proven from the archive, and from archive and tail, as from the log."""

from __future__ import annotations

import json

import pytest
from archives import archive_log, started
from replay_world import opened
from run_contract import SHARED

from runfold.capture import snapshot
from runfold.log.archive import ArchiveSource
from runfold.log.sqlite import SqliteSource
from runfold.log.whole import WholeLog
from runfold.replay.verify import verify

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no recorded Runs at {SHARED}: set RUNFOLD_SHARED")


def recorded_events():
    """The events of all recorded bodies, in the order in which they were seen."""
    bodies = [json.loads(path.read_text()) for path in sorted((SHARED / "data" / "runs").glob("recorded__*"))]
    for path in sorted((SHARED / "data" / "streams").glob("recorded__*")):
        lines = [line for line in path.read_text().splitlines() if line.startswith("data: {")]
        bodies += [body for line in lines if (body := json.loads(line[6:]))["object"] == "thread.run"]
    return [event for body in bodies for event in snapshot(body).events]


async def test_recorded_runs_are_proven_from_their_archive(tmp_path):
    """Every digest, from log, archive, and archive and tail, is the one of the live fold."""
    events = recorded_events()
    folder = tmp_path / "archive"
    async with opened(tmp_path) as world:
        await world.publish(*events)
        await world.serve()
        await archive_log(world.log, folder)
        live = await world.digest()

        async def proven(source):
            async with started(source):
                return await verify(source, world.store, world.rules, workspace=world.workspace)

        found = [await proven(SqliteSource(world.log)), await proven(ArchiveSource(folder))]
        for which in range(world.partitions):
            table = f"partition_{which}"
            world.cut_log(f"DELETE FROM {table} WHERE offset < (SELECT max(offset) - 3 FROM {table})")
        found.append(await proven(WholeLog(ArchiveSource(folder), SqliteSource(world.log), where=folder)))
        assert [each.recomputed for each in found] == [live] * 3
        assert [each.unverifiable for each in found] == [0] * 3
        assert found[0].records == len(events) > 100
