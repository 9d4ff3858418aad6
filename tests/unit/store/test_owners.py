"""Names of owners, and what can be seen of them from the same machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runfold.store.claims import ClaimedRow
from runfold.store.owners import is_there, new_owner
from runfold.store.port import ClaimHistory


def named(pid: int) -> str:
    """The name that a worker of that process would have."""
    host, _, rest = new_owner().partition(":")
    return f"{host}:{pid}:{rest.partition(':')[2]}"


@pytest.fixture
def child():
    """A process that sleeps, and is gone after the test."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def test_a_process_that_runs_is_there(child):
    """So is one that is frozen."""
    assert is_there(new_owner())
    assert is_there(named(child.pid))
    child.send_signal(signal.SIGSTOP)
    assert is_there(named(child.pid))


def test_a_process_that_ended_is_not(child):
    """Whether somebody has waited for it yet, or not."""
    child.kill()
    deadline = time.monotonic() + 10
    while is_there(named(child.pid)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.wait()
    assert not is_there(named(child.pid))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only where there is /proc")
def test_a_zombie_is_not_there():
    """A process whose parent has not waited for it has ended all the same."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    try:
        deadline = time.monotonic() + 10
        while is_there(named(pid)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.waitpid(pid, 0)


@pytest.mark.parametrize("owner", ["", "me", "elsewhere:1:x", "a:b:c", "host:99999999999999999999:x"])
def test_whoever_is_elsewhere_cannot_be_seen(owner):
    """Another machine's, and what is no such name."""
    assert not is_there(owner)


def row(owner: str) -> ClaimedRow:
    """A partition whose owner has fallen silent, with a record on trial, at a position where it was claimed."""
    return ClaimedRow(
        partition=0,
        position=5,
        epoch=1,
        owner=owner,
        lease_until=0,
        first_offset=0,
        last_offset=None,
        last_hash=None,
        history=ClaimHistory(claimed_at=5, trial=5, suspect=5, deaths=1, stalled=3),
    )


def test_a_frozen_owner_says_nothing_of_its_record(child):
    """It was taken over, and that is counted; the record that it had in hand is no more suspect than before."""
    child.send_signal(signal.SIGSTOP)
    history = row(named(child.pid)).claimed_by("me").history
    assert (history.takeovers, history.stalled, history.deaths) == (1, 3, 1)


def test_a_dead_owner_does(child):
    """A second death with the record alone in hand."""
    child.kill()
    child.wait()
    history = row(named(child.pid)).claimed_by("me").history
    assert (history.takeovers, history.stalled, history.deaths) == (1, 4, 2)
