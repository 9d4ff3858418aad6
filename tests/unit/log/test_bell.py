"""Followers hear of new records at once, and miss nothing when they do not."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile

import pytest

from runfold.log import bell


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(bell, "SAFETY_SECONDS", 60.0)  # whoever returns was rung for
    return tmp_path / "log.db"


@pytest.fixture
async def follower(log):
    follower = bell.Follower(log)
    follower.open()
    yield follower
    follower.close()


async def heard(follower: bell.Follower) -> None:
    async with asyncio.timeout(10):
        await follower.wait(60)


async def test_a_ring_wakes_every_follower(log, follower):
    """One ring ends the wait of all followers."""
    other = bell.Follower(log)
    other.open()
    bell.Ringer(log).ring()
    await asyncio.gather(heard(follower), heard(other))
    other.close()


async def test_a_ring_before_the_wait_counts(log, follower):
    """A ring between disarming and waiting is not lost."""
    follower.disarm()
    bell.Ringer(log).ring()
    await asyncio.sleep(0)
    await heard(follower)


async def test_a_ring_reaches_other_processes(log, follower):
    """A follower hears a writer in another process."""
    code = f"import tempfile; tempfile.tempdir = {tempfile.tempdir!r}\nfrom pathlib import Path\n"
    code += f"from runfold.log.bell import Ringer; Ringer(Path({str(log)!r})).ring()"
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], check=True)
    await heard(follower)


async def test_two_names_of_a_log_share_a_bell(log, follower):
    """A log reached through a symbolic link rings the same followers."""
    log.touch()
    link = log.with_name("link.db")
    link.symlink_to(log)
    bell.Ringer(link).ring()
    await heard(follower)


async def test_a_dead_follower_is_cleared_away(log, follower):
    """A socket whose process died is removed by the next ring, and hinders nobody."""
    dead = bell.Follower(log)
    dead.open()
    asyncio.get_running_loop().remove_reader(dead._socket)
    dead._socket.close()
    bell.Ringer(log).ring()
    await heard(follower)
    assert not dead._address.exists()


async def test_a_full_queue_blocks_no_writer(log, follower):
    """Ten thousand rings that nobody takes away leave the writer free."""
    ringer = bell.Ringer(log)
    for _ in range(10_000):
        ringer.ring()
    await heard(follower)


def test_ringing_without_followers_is_silent(log):
    """A ring that nobody can hear does nothing."""
    bell.Ringer(log).ring()


async def test_a_lost_ring_costs_delay_only(log, follower, monkeypatch):
    """Without a ring the wait ends at the safety timer, however long was asked for."""
    monkeypatch.setattr(bell, "SAFETY_SECONDS", 0.01)
    await heard(follower)


async def test_a_swept_folder_is_made_anew(log, follower, monkeypatch):
    """A follower whose socket was swept away listens again after the next look."""
    folder = bell.bell_folder(log)
    for address in folder.iterdir():
        address.unlink()
    folder.rmdir()
    monkeypatch.setattr(bell, "SAFETY_SECONDS", 0.01)
    await heard(follower)
    monkeypatch.setattr(bell, "SAFETY_SECONDS", 60.0)
    bell.Ringer(log).ring()
    await heard(follower)


async def test_a_folder_open_to_others_is_not_trusted(log, monkeypatch):
    """Where others may write into the folder, nobody listens or rings there; the timer remains."""
    bell.bell_folder(log).mkdir(mode=0o777)
    bell.bell_folder(log).chmod(0o777)
    monkeypatch.setattr(bell, "SAFETY_SECONDS", 0.01)
    follower = bell.Follower(log)
    follower.open()
    bell.Ringer(log).ring()
    await heard(follower)
    bell.bell_folder(log).rmdir()  # which only an empty folder allows


async def test_a_closed_follower_leaves_nothing_behind(log):
    """Closing removes the socket, and the folder when it was the last one."""
    follower = bell.Follower(log)
    follower.open()
    follower.close()
    assert not bell.bell_folder(log).exists()


async def test_a_folder_lives_as_long_as_one_follower(log, follower):
    """Closing one follower leaves the others theirs."""
    other = bell.Follower(log)
    other.open()
    other.close()
    bell.Ringer(log).ring()
    await heard(follower)


def test_a_long_temporary_folder_is_passed_over(log, monkeypatch):
    """Where the temporary folder's name is too long for a socket, /tmp is used."""
    monkeypatch.setattr(tempfile, "tempdir", "/" + "x" * 100)
    assert len(str(bell.bell_folder(log))) < 80
