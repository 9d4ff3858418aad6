"""How the followers of a SQLite log hear of new records: a Unix datagram socket each, which writers ring after a commit.

A ring carries nothing; whoever hears one looks into the log. A ring may be lost (another user, another temporary folder, a
full queue), so followers also look at leisure, every ``SAFETY_SECONDS``. Only delay may ever come of a lost ring.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import socket
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

import structlog

SAFETY_SECONDS = 0.5

_logger = structlog.get_logger(__name__)
_LONGEST_ADDRESS = 100  # of a socket: 108 bytes on Linux, 104 on macOS, with the final zero


def bell_folder(log: Path) -> Path:
    """The private folder where the followers of this log have their sockets; the same for every process of this user."""
    name = f"runfold-{os.getuid()}-{hashlib.sha256(os.fsencode(os.path.realpath(log))).hexdigest()[:16]}"
    folder = Path(tempfile.gettempdir()) / name
    if len(os.fsencode(folder)) + 20 > _LONGEST_ADDRESS:
        folder = Path("/tmp") / name  # noqa: S108 - private by its mode and owner, both checked before use
    return folder


def _private(folder: Path) -> bool:
    """Whether the folder is there, and nobody else could have put anything into it."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


class Ringer:
    """A writer's side: rings every follower, and clears away the sockets of those that died."""

    def __init__(self, log: Path) -> None:
        self._folder = bell_folder(log)

    def ring(self) -> None:
        """Wake all followers; never blocks, never fails for want of one."""
        if not _private(self._folder):
            return
        with socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM
        ) as ringing:  # a new one each time: nothing survives a fork
            ringing.setblocking(False)
            for name in _names_in(self._folder):
                _ring_one(ringing, self._folder / name)


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - names are enough, and this is done at every commit
    except FileNotFoundError:
        return []  # the last follower has just gone, and its folder with it


def _ring_one(ringing: socket.socket, address: Path) -> None:
    try:
        ringing.sendto(b"", str(address))
    except ConnectionRefusedError:
        address.unlink(missing_ok=True)  # its process died without a word
    except (BlockingIOError, FileNotFoundError):
        return  # it has rings enough to wake it, or has just gone


class Follower:
    """A reader's side. Disarm it, look into the log, and if nothing was there wait: no ring in between is missed."""

    def __init__(self, log: Path) -> None:
        self._folder = bell_folder(log)
        self._rung = asyncio.Event()
        self._socket: socket.socket | None = None
        self._address: Path | None = None

    def open(self) -> None:
        """Start to listen on the running loop. Where the temporary folder is unfit, say so, and look at leisure only."""
        try:
            try:
                self._listen()
            except FileNotFoundError:  # another follower closed just now, and took the folder along
                self._listen()
        except OSError as error:
            _logger.warning(
                "log_bell_mute", reason=str(error), remedy="name another folder in TMPDIR", delay=SAFETY_SECONDS
            )

    def _listen(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        if not _private(self._folder):
            raise PermissionError(f"{self._folder} belongs to somebody else, or is open to others")
        address = self._folder / f"{os.getpid():x}-{secrets.token_hex(4)}"
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            listening.setblocking(False)
            listening.bind(str(address))
            asyncio.get_running_loop().add_reader(listening, self._drain)
        except BaseException:
            listening.close()
            raise
        self._socket, self._address = listening, address

    def _drain(self) -> None:
        assert self._socket is not None
        try:
            while True:
                self._socket.recv(1)
        except BlockingIOError:
            self._rung.set()

    def disarm(self) -> None:
        """Forget the rings so far."""
        self._rung.clear()

    async def wait(self, seconds: float) -> None:
        """Return at a ring since :meth:`disarm`, or after ``seconds``, or when it is time to look at leisure."""
        try:
            async with asyncio.timeout(min(seconds, SAFETY_SECONDS)):
                await self._rung.wait()
        except TimeoutError:
            self._return_if_swept()

    def _return_if_swept(self) -> None:
        # Temporary folders are swept by age, also under a service that runs for weeks.
        if self._address is not None and not self._address.exists():
            self.close()
            self.open()

    def close(self) -> None:
        if self._socket is None or self._address is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._address.unlink(missing_ok=True)
        self._socket = self._address = None
        if not _names_in(self._folder):
            with suppress(OSError):  # somebody may have begun to listen there since, or swept it
                self._folder.rmdir()
