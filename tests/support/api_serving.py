"""``runfold api`` in a process of its own, for tests that ask it as its users do: over HTTP."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
from serving import fill, messages, settings_of

from runfold import wiring
from runfold.api.keys import new_key
from runfold.log.port import Message
from runfold.service.serve import serve
from runfold_schemas import Event

_LISTENING = re.compile(r"listening on (http://\S+)")


class ApiServer:
    """A server that answers at ``url``. ``told`` are further settings, as RUNFOLD_API_... names them."""

    def __init__(self, folder: Path, *options: str, **told: object) -> None:
        own = {name: value for name, value in os.environ.items() if not name.startswith("RUNFOLD_")}
        given = {f"RUNFOLD_{name.upper()}": str(value) for name, value in told.items()}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "runfold", "api", *([] if "--port" in options else ["--port", "0"]), *options],
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
        self._process.stderr.close()
        raise AssertionError(f"the server ended with {self._process.wait()}: {self.said}")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself, or been killed."""
        return self._process.poll() is not None

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


def publish_and_fold(folder: Path, told: Sequence[Event | Message], **settings: object) -> None:
    """Append events, or records as they are, to the folder's log, and fold all of it into the store."""

    async def run() -> None:
        await fill(folder, [one if isinstance(one, Message) else messages([one])[0] for one in told], partitions=2)
        effective = settings_of(folder, **settings)
        source, store = wiring.open_source(effective), wiring.open_store(effective, make_folder=True)
        await serve(effective, source, store, until_end=True, stop=asyncio.Event())

    asyncio.run(run())


def add_key(folder: Path, *scopes: str, project_id: str | None = None, **settings: object) -> str:
    """Make a key in the store, and return what its bearer sends."""
    shown, key = new_key(name="test", scopes=scopes, project_id=project_id)

    async def run() -> None:
        store = wiring.open_store(settings_of(folder, **settings))
        await store.open()
        await store.add_key(key)
        await store.close()

    asyncio.run(run())
    return shown


def client_of(server: ApiServer, *, key: str = "any", **options: object) -> openai.OpenAI:
    """OpenAI's own client, pointed at us, without its patience."""
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, **options)


def ask(
    server: ApiServer,
    path: str,
    *,
    method: str = "GET",
    key: str | None = None,
    headers: Mapping[str, str] | None = None,
    **options: Any,
) -> httpx2.Response:
    """One request, as it is."""
    told = dict(headers or {}) | ({} if key is None else {"authorization": f"Bearer {key}"})
    return httpx2.request(method, server.url + path, headers=told, timeout=30, **options)
