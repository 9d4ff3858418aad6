"""A reader of the feed as others would write one: it comes back with the last id it saw, whatever broke."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, NamedTuple

import httpx2
from api_serving import ApiServer

PATH = "/v1/runfold/feed"


class Told(NamedTuple):
    """One event of the feed: where the reader stands behind it, its name, and the Run. ``here``: nothing but where."""

    id: str
    name: str | None
    run: dict[str, Any]


def events(lines: Iterable[str]) -> Iterator[Told]:
    """What server-sent events say, also of those without data."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            if "id" in fields:
                yield Told(fields["id"], fields.get("event"), json.loads(fields.get("data", "{}")))
            fields = {}


def positions(vector: str) -> dict[int, int]:
    return {int(part.split(":")[0]): int(part.split(":")[1]) for part in vector.split(",") if part}


def told(server: ApiServer, *, key: str | None = None, last: str | None = None, **params: Any) -> list[Told]:
    """All that a stream says that ends by itself."""
    headers = ({} if key is None else {"authorization": f"Bearer {key}"}) | ({"last-event-id": last} if last else {})
    with httpx2.stream(
        "GET", server.url + PATH, params={"ends": "true", **params}, headers=headers, timeout=30
    ) as answer:
        answer.read() if answer.status_code != 200 else None
        assert answer.status_code == 200, answer.text
        return list(events(answer.iter_lines()))


async def aevents(lines: AsyncIterator[str]) -> AsyncIterator[Told]:
    """As :func:`events`."""
    block: list[str] = []
    async for line in lines:
        block.append(line)
        if not line:
            for each in events(block):
                yield each
            block = []
