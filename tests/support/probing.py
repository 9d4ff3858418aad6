"""What probes and scrapers do: ask a service how it is, over HTTP, as anybody would."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

PATIENCE = 60.0
LISTEN = {"health": "127.0.0.1:0", "ready_lag": 0}
"""Settings of a service that listens at a free port, and is ready once nothing waits."""


class Reply(NamedTuple):
    """What came back."""

    code: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Probe:
    """Asks the service that listens at ``address``."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)

    async def ask(self, path: str, method: str = "GET") -> Reply:
        return await asyncio.to_thread(self._ask, path, method)

    def _ask(self, path: str, method: str) -> Reply:
        connection = HTTPConnection(self._host, self._port, timeout=10)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return Reply(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    async def until(self, path: str, condition: Callable[[Reply], object], *, within: float = PATIENCE) -> Reply:
        """Ask until the condition holds, as a probe does: again and again."""
        async with asyncio.timeout(within):
            while not condition(reply := await self.ask(path)):  # noqa: ASYNC110 - a probe is told nothing
                await asyncio.sleep(0.05)
        return reply

    async def metrics(self) -> Figures:
        return Figures((await self.ask("/metrics")).body.decode())


class Figures:
    """Scraped metrics."""

    def __init__(self, text: str) -> None:
        self.families = list(text_string_to_metric_families(text))

    def all(self, name: str) -> dict[tuple[str, ...], float]:
        """A metric's values by the values of its labels, in the order of the labels' names."""
        return {
            tuple(value for _, value in sorted(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
            if sample.name == f"runfold_{name}"
        }

    def one(self, name: str, *labels: str) -> float:
        return self.all(name)[labels]


def code(wanted: int) -> Callable[[Reply], bool]:
    return lambda reply: reply.code == wanted
