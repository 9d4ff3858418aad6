"""Events a second that one server takes over HTTP, in batches of 100; beside the publisher alone, in the same run.

Run it with ``python tests/bench/bench_ingest.py [--events N]``. The load comes from a process of its own over several
connections, its requests made beforehand, so that what is measured is the server: its events a second, and its CPU an event.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import msgspec
import psutil

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]

from api_serving import api_server, publish_and_fold  # noqa: E402 - the path is set above
from bench_publish import interleaved, publish  # noqa: E402 - as above

from runfold_schemas import Event, encode_json  # noqa: E402 - as above
from runfold_schemas.codec import encode  # noqa: E402 - as above

BATCH = 100
CONNECTIONS = 32


def requests(events: Sequence[Event], media: str) -> list[bytes]:
    """Whole requests, head and body."""
    made = []
    for at in range(0, len(events), BATCH):
        some = events[at : at + BATCH]
        if media == "application/msgpack":
            body = msgspec.msgpack.encode([msgspec.Raw(encode(event)) for event in some])
        else:
            body = b"[" + b",".join(encode_json(event) for event in some) + b"]"
        head = f"POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: {media}\r\ncontent-length: {len(body)}\r\n\r\n"
        made.append(head.encode() + body)
    return made


async def send(port: int, made: Sequence[bytes]) -> None:
    """Send requests one after the other, on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in made:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 202"), head
        length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
    writer.close()


def load(port: int, made: Sequence[bytes], seconds: multiprocessing.Queue[float]) -> None:
    """The other process: all connections at once."""

    async def run() -> None:
        begun = time.perf_counter()
        await asyncio.gather(*(send(port, made[number::CONNECTIONS]) for number in range(CONNECTIONS)))
        seconds.put(time.perf_counter() - begun)

    asyncio.run(run())


def measured(events: Sequence[Event], media: str) -> tuple[float, float]:
    """Events a second, and the server's CPU seconds an event."""
    made = requests(events, media)
    with tempfile.TemporaryDirectory() as name:
        publish_and_fold(Path(name), [])
        with api_server(Path(name)) as server:
            port, process = int(server.url.rpartition(":")[2]), psutil.Process(server.pid)
            context = multiprocessing.get_context("fork")
            before, seconds = process.cpu_times(), context.Queue()
            sender = context.Process(target=load, args=(port, made, seconds))
            sender.start()
            took = seconds.get()
            sender.join()
            after = process.cpu_times()
    used = after.user + after.system - before.user - before.system
    return len(events) / took, used / len(events)


def main(say: Callable[[str], None] = print) -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", type=int, default=200_000)
    given = options.parse_args()
    now = int(time.time() * 1000)
    events = [
        msgspec.structs.replace(event, id=f"{number:032x}", occurred_at=now)
        for number, event in enumerate(islice(interleaved(), given.events))
    ]
    with tempfile.TemporaryDirectory() as name:
        alone = asyncio.run(publish(Path(name) / "runfold.log.db", events))
    say(f"publisher alone, 5,000 a call  {alone:>10,.0f} events/s")
    for media in ("application/json", "application/msgpack"):
        rate, used = measured(events, media)
        say(
            f"HTTP, {media:<22} {rate:>10,.0f} events/s   {rate / alone:.2f} x publisher   "
            f"{used * 1e6:.1f} us CPU an event in the server"
        )


if __name__ == "__main__":
    main()
