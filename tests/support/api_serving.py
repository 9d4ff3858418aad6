"""``runfold api`` in a process of its own, for tests that ask it as its users do: over HTTP."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx2
import openai
from serving import fill, messages, settings_of

from runfold import wiring
from runfold.service.serve import serve
from runfold_schemas import Event

_LISTENING = re.compile(r"listening on (http://\S+)")


class ApiServer:
    """A server that answers at ``url``. ``told`` are further settings, as RUNFOLD_API_... names them."""

    def __init__(self, folder: Path, *options: str, **told: object) -> None:
        own = {name: value for name, value in os.environ.items() if not name.startswith("RUNFOLD_")}
        given = {f"RUNFOLD_{name.upper()}": str(value) for name, value in told.items()}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "runfold", "api", "--port", "0", *options],
            env=own | {"RUNFOLD_DATA": str(folder), "RUNFOLD_LOGGING_FORMAT": "json"} | given,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        self.said: list[str] = []
        for line in self._process.stderr:
            self.said.append(line)
            if found := _LISTENING.search(line):
                self.url = found[1]
                return
        raise AssertionError(f"the server ended with {self._process.wait()}: {self.said}")

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it; returns its exit code. What it said until then is in ``said``."""
        self._process.send_signal(how)
        assert self._process.stderr is not None
        self.said += self._process.stderr.readlines()
        self._process.stderr.close()
        return self._process.wait(timeout=20)


@contextmanager
def api_server(folder: Path, *options: str, **told: object) -> Iterator[ApiServer]:
    """A server that does not outlive the block."""
    made = ApiServer(folder, *options, **told)
    try:
        yield made
    finally:
        if made._process.poll() is None:
            made.stop(signal.SIGKILL)


def publish_and_fold(folder: Path, events: Sequence[Event], *, store: str | None = None) -> None:
    """Append events to the folder's log, and fold all of it into the store (by default the folder's)."""

    async def run() -> None:
        await fill(folder, messages(events), partitions=2)
        settings = settings_of(folder, **({} if store is None else {"store": store}))
        source, into = wiring.open_source(settings), wiring.open_store(settings, make_folder=True)
        await serve(settings, source, into, until_end=True, stop=asyncio.Event())

    asyncio.run(run())


def client_of(server: ApiServer, *, key: str = "any", **options: object) -> openai.OpenAI:
    """OpenAI's own client, pointed at us, without its patience."""
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, **options)


def get(server: ApiServer, path: str, *, key: str | None = None, **options: object) -> httpx2.Response:
    """One request, as it is."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return httpx2.get(server.url + path, headers=headers | dict(options.pop("headers", {})), **options)
