"""The process that owns the Kafka processes of one cluster, and ends them when nobody wants them any more.

``python kafka_guard.py FOLDER`` listens on ``FOLDER/guard.sock``. Whoever holds a connection wants the cluster; when the
last one is closed, by its owner's end or death, the Kafka processes are ended and the folder is removed. So nothing is
left behind after Ctrl-C, kill -9 or a crash of those who use it. A line of JSON asks, a line of JSON answers. Standard
library only.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

NOBODY_CAME_SECONDS = 30


class Guard:
    """Serves one folder; ``processes`` are those that run, by the name they were started under."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._selector = selectors.DefaultSelector()
        self._clients: set[socket.socket] = set()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._listener = socket.socket(socket.AF_UNIX)
        self._last: socket.socket | None = None

    def serve(self) -> None:
        """Answer until the last client has gone."""
        self._listener.bind(str(self._folder / "guard.sock"))
        self._listener.listen()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        nobody_came = time.monotonic() + NOBODY_CAME_SECONDS
        came = False
        while self._clients or not came:
            for key, _ in self._selector.select(1):
                act: Callable[[], None] = key.data
                act()
            came = came or bool(self._clients)
            if not came and time.monotonic() > nobody_came:
                return

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        self._clients.add(client)
        lines = client.makefile("rb")
        self._selector.register(client, selectors.EVENT_READ, lambda: self._hear(client, lines))

    def _hear(self, client: socket.socket, lines: Any) -> None:
        try:
            line = lines.readline()
            answer = self._obey(json.loads(line)) if line else None
            if answer is not None:
                client.sendall(json.dumps(answer).encode() + b"\n")
                return
        except OSError:
            pass  # a client that died: the same as one that left
        self._selector.unregister(client)
        self._clients.discard(client)
        lines.close()
        if self._clients:
            client.close()
        else:
            self._last = client  # closed when all is gone: those who wish can wait for that

    def _obey(self, order: dict[str, Any]) -> dict[str, Any]:
        name = order["name"]
        if order["do"] == "start":
            with (self._folder / f"{name}.log").open("ab") as output:
                self._processes[name] = subprocess.Popen(  # noqa: S603 - a command line of our own
                    order["command"], stdin=subprocess.DEVNULL, stdout=output, stderr=output
                )
        process = self._processes[name]
        if order["do"] == "signal":
            process.send_signal(order["signal"])
            if order["signal"] == signal.SIGSTOP:
                _await_stop(process.pid)
        elif order["do"] == "wait":
            with suppress(subprocess.TimeoutExpired):
                process.wait(order["seconds"])
        return {"pid": process.pid, "code": process.poll()}

    def end(self) -> None:
        """Kill all processes and remove the folder: what they hold dies with them anyway."""
        self._listener.close()
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._last is not None:
            self._last.close()


def _await_stop(pid: int) -> None:
    """Threads stop one by one, and may answer until then."""
    if hasattr(os, "waitid"):  # macOS has it since Python 3.13
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


def _leave(*_: object) -> None:
    sys.exit(1)


if __name__ == "__main__":
    if os.fork():
        os._exit(0)  # nobody's child, so that nobody has to wait for it
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGHUP, _leave)
    guard = Guard(Path(sys.argv[1]))
    try:
        guard.serve()
    finally:
        guard.end()
