"""The SQLite store under faults of processes: two that serve it, one that is killed while it writes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlite_batches import dumped, opened

from runfold.store.port import StoreBusy
from runfold.store.sqlite import SqliteStore

SUPPORT = Path(__file__).parents[1] / "support"

HOLD = """
import sys, time
from runfold.store.sqlite import SqliteStore
with SqliteStore(sys.argv[1]).serve_lock():
    print("held", flush=True)
    time.sleep(60)
"""


def start(script: str, *given: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, given)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_second_server_is_told_the_first_ones_pid(tmp_path: Path) -> None:
    """Two processes never serve one store; once the first is dead, however it died, its lock file is no obstacle."""
    path = tmp_path / "store.db"
    with start(HOLD, path) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(StoreBusy, match=rf"process {first.pid}\b"), SqliteStore(path).serve_lock():
            pass
        first.kill()
    with SqliteStore(path).serve_lock():
        assert (tmp_path / "store.db.lock").read_text() == f"{os.getpid()}\n"


WRITE = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from sqlite_batches import batch, opened
from store_batches import claim

async def main():
    store = await opened(Path(sys.argv[2]))
    leases = await claim(store)
    print("ready", flush=True)
    handles = {}
    for number in range(leases[0].position, 1_000_000):
        handles = await store.apply(batch(number, new=200, old={r: h for (_, r), h in handles.items()}), leases)

asyncio.run(main())
"""


async def test_killed_at_any_instant_no_batch_is_half_written(tmp_path: Path) -> None:
    """A writer killed with SIGKILL while it writes leaves whole batches: rows, letters, usage and position agree."""
    path = tmp_path / "store.db"
    for attempt in range(8):
        with start(WRITE, SUPPORT, path) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            await asyncio.sleep(0.05 + 0.013 * attempt)  # the instant is the point of the test
            writer.send_signal(signal.SIGKILL)
        store = await opened(path)
        view = await store.snapshot()
        position = (await view.positions())[0]
        rows = [row for _, row in view.scan_runs()]
        assert len(rows) == 200 * position
        assert len(list(view.letters(0))) == len(list(view.journal(0))) == position
        assert sum(row.sums[0] for row in await store.usage()) == 2 * position
        assert (await dumped(store))[-3:] == [b"(0,)"] * 3
        await view.close()
        await store.close()
    assert position > 0
