"""What reading over HTTP costs: one API process over a store with many runs, asked from another process.

Run: ``python tests/bench/bench_api.py [--runs 1000000] [--seconds 5] [--postgres]``. Needs wrk (Debian: ``apt-get install
wrk``). The store is SQLite's; with ``--postgres`` it is in a PostgreSQL that is started for it, on this machine. Each line is
beside a trivial handler on the same server in the same run, which answers bytes of the same size without looking at the
request. *A second* is as the clock has it; *a CPU second* is of the answering process alone, so that other load on the machine
does not count. Latencies are those of single requests sent on time by a clock, at half of what is asked of the process (of what
it answers, where that is less); they do depend on other load. The last line is read while `runfold serve` folds a log into that
store, as fast as it can.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from random import Random
from typing import NamedTuple

import psutil
import uvicorn

from runfold.api.server import configured
from runfold.demo.traffic import interleaved
from runfold.fold.changes import Changes, PositionChange, RunChange
from runfold.fold.record import StoredRecord
from runfold.fold.rules import COMPATIBLE, FOLD_VERSION, Rules
from runfold.fold.run import fold
from runfold.fold.state import RunState, encode_state
from runfold.fold.usage import BucketKey, add, book
from runfold.log.sqlite import SqliteSink, SqliteSource
from runfold.store.port import Store
from runfold.store.postgres import PostgresStore
from runfold.store.sqlite import SqliteStore
from runfold_schemas import RunCompleted, RunCreated, RunInProgress, Usage
from runfold_schemas.codec import encode

sys.path[:0] = [str(Path(__file__).parents[1] / "support")]

from postgres_server import own_server  # noqa: E402 - the path is set above

CHUNK, THREAD, CONNECTIONS = 20_000, 25, 16
START = 1_760_000_000
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
LISTED = THREAD - 5
"""Runs in a page: as many as a thread has, but a few."""
MODELS, PROJECTS = 4, 5
"""So a minute has twenty buckets, of thirty runs each."""
FOLDED = 1_000_000
"""Events that are folded while others read."""
RETRIEVE = "/v1/threads/{thread}/runs/{run}"
MINUTES = (
    f"/v1/organization/usage/completions?start_time={START}&end_time={START + 86_400}&bucket_width=1m&limit=1440"
    "&models[]=model_1"
)


def state_of(number: int) -> RunState:
    """A run that went well, told by its three events."""
    named = {"run_id": f"run_{number:024d}", "thread_id": f"thread_{number // THREAD:024d}", "source": "bench"}
    at, state = (START + number // 10) * 1000, None
    metadata = {"project_id": f"proj_{number % PROJECTS}"}
    told = (
        RunCreated(
            **named,
            id="e1",
            sequence=1,
            occurred_at=at,
            assistant_id=f"asst_{number % PROJECTS}",
            model=f"model_{number % MODELS}",
            instructions="You are a helpful assistant. Answer briefly.",
            tools=TOOLS,
            metadata=metadata,
        ),
        RunInProgress(**named, id="e2", sequence=2, occurred_at=at + 500),
        RunCompleted(
            **named,
            id="e3",
            sequence=3,
            occurred_at=at + 4_000,
            usage=Usage(prompt_tokens=900, completion_tokens=200, total_tokens=1100),
        ),
    )
    for event in told:
        state, _ = fold(state, event)
    assert state is not None
    return state


async def fill(folder: Path, store: Store, runs: int) -> None:
    """An empty log, and a store of it with so many runs and what they used."""
    path = folder / "runfold.log.db"
    sink, source = SqliteSink(path, partitions=1), SqliteSource(path)
    await sink.start()
    await sink.close()
    await source.start()
    log = await source.identity()
    await source.close()
    await store.open()
    fold_told = {"fold_version": FOLD_VERSION, "compatible": COMPATIBLE, "settings_hash": Rules().settings_hash}
    await store.bind(cluster_id=log.cluster_id, topic=log.topic, partitions=1, **fold_told)
    leases = await store.claim("bench", {0: 0}, lease=3600)
    for begin in range(0, runs, CHUNK):
        states = [state_of(number) for number in range(begin, min(runs, begin + CHUNK))]
        rows = [
            RunChange(
                *(0, state.run_id, 0, state.thread_id, state.status, state.created_at, 0, state.dimensions),
                *(state.created_at // 60, state.created_at * 1000, encode_state(state)),
            )
            for state in states
        ]
        usage = dict[BucketKey, list[int]]()
        for state in states:
            add(usage, *book(state))
        moves = {0: PositionChange(begin, begin + CHUNK, begin + CHUNK - 1, b"12345678")}
        await store.apply(Changes(runs=rows, usage=usage, positions=moves), leases)
    await store.release("bench", leases)
    await store.close()


async def trivial(scope, receive, send) -> None:
    """Answers 900 bytes, whatever is asked."""
    if scope["type"] == "lifespan":
        for _ in range(2):
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
        return
    headers = [(b"content-type", b"application/json"), (b"content-length", b"900")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"x" * 900, "more_body": False})


def serve_trivially(port: int) -> None:
    config = configured(trivial)
    config.port = port
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(uvicorn.Server(config).serve())


@contextmanager
def process(*command: str, port: int, **environment: str):
    """A server in a process of its own, once it listens."""
    told = {name: value for name, value in os.environ.items() if not name.startswith("RUNFOLD_")}
    server = subprocess.Popen([sys.executable, *command], env=told | environment, stderr=subprocess.DEVNULL)
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            time.sleep(0.1)
        time.sleep(1)
        yield psutil.Process(server.pid)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


class Rate(NamedTuple):
    """Requests a second by the clock, and a CPU second of the server's."""

    second: float
    cpu_second: float


def wrk(url: str, script: str, *, server: psutil.Process, seconds: int) -> Rate:
    """As many requests as the server answers, each of them with 200."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        before = server.cpu_times()
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", file.name, url]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        after = server.cpu_times()
    assert "Non-2xx" not in said, said
    count = int(re.search(r"(\d+) requests in", said)[1])
    return Rate(count / seconds, count / (after.user + after.system - before.user - before.system))


def asking(path: str, *, runs: int) -> str:
    """A script of wrk's that asks for runs at random; ``path`` may name {thread} and {run}."""
    thread = f'" .. string.format("thread_%024d", math.floor(n / {THREAD})) .. "'
    lua = path.replace("{thread}", thread)
    lua = lua.replace("{run}", '" .. string.format("run_%024d", n) .. "')
    return f'request = function() local n = math.random(0, {runs - 1}) return wrk.format("GET", "{lua}") end'


class OnTime(asyncio.Protocol):
    """A connection of the client that sends by a clock."""

    def __init__(self) -> None:
        self._got, self._whole, self._answer = bytearray(), 0, None

    def connection_made(self, transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._got += data
        if not self._whole and (head := self._got.find(b"\r\n\r\n")) >= 0:
            self._whole = head + 4 + int(re.search(rb"content-length: (\d+)", self._got[:head])[1])
        if self._whole and len(self._got) >= self._whole:
            self._answer.set_result(self._got.startswith(b"HTTP/1.1 200"))
            self._got, self._whole = bytearray(), 0

    async def ask(self, path: str, host: str) -> bool:
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(f"GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
        return await self._answer


class Latencies(NamedTuple):
    """Milliseconds, in order."""

    found: list[float]

    def __str__(self) -> str:
        p50, p99 = (self.found[int(len(self.found) * share)] for share in (0.5, 0.99))
        return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms"


async def latencies(
    path: str, *, port: int, rate: float, runs: int, more: Callable[[int], bool], connections: int = 64
) -> Latencies:
    """From when a request was due until its answer was whole, for as long as ``more`` of the requests sent says."""
    loop, random = asyncio.get_running_loop(), Random(7)
    free: asyncio.LifoQueue[OnTime] = asyncio.LifoQueue()
    found = list[float]()

    async def connected() -> OnTime:
        return (await loop.create_connection(OnTime, "127.0.0.1", port))[1]

    for _ in range(connections):
        free.put_nowait(await connected())

    async def one(due: float, number: int) -> None:
        connection = await free.get()
        if connection.transport.is_closing():  # the server closes those that nobody uses
            connection = await connected()
        asked = path.format(thread=f"thread_{number // THREAD:024d}", run=f"run_{number:024d}")
        assert await connection.ask(asked, f"127.0.0.1:{port}")
        found.append((loop.time() - due) * 1000)
        free.put_nowait(connection)

    gc.disable()  # or this process's own pauses would be taken for the server's
    begun, sent = loop.time(), 0
    async with asyncio.TaskGroup() as group:
        while more(sent):
            due = begun + sent / rate
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            group.create_task(one(due, random.randrange(runs)))
            sent += 1
    gc.enable()
    while not free.empty():
        free.get_nowait().transport.close()
    return Latencies(sorted(found))


def lay_out(folder: Path, runs: int) -> None:
    """Events for the consumer to fold, behind those that the store has."""
    at = int(time.time() * 1000)
    records = [
        StoredRecord(runs + place, at, event.run_id.encode(), encode(event))
        for place, event in enumerate(islice(interleaved(5_000, Random(1)), FOLDED))
    ]

    async def append() -> None:
        sink = SqliteSink(folder / "runfold.log.db", partitions=1)
        await sink.start()
        for begin in range(0, len(records), CHUNK):
            await sink.append_stamped(0, records[begin : begin + CHUNK])
        await sink.close()

    asyncio.run(append())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="keep the SQLite store here, or find it")
    parser.add_argument("--postgres", action="store_true")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk is not installed: apt-get install wrk")
        return
    with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
        folder = options.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        environment = {"RUNFOLD_DATA": str(folder)}
        if options.postgres:
            environment["RUNFOLD_STORE"] = stack.enter_context(own_server()).url
            asyncio.run(fill(folder, PostgresStore(environment["RUNFOLD_STORE"]), options.runs))
        elif not (folder / "runfold.db").exists():
            asyncio.run(fill(folder, SqliteStore(folder / "runfold.db"), options.runs))
        measure(environment, runs=options.runs, seconds=options.seconds)


def measure(environment: dict[str, str], *, runs: int, seconds: int) -> None:
    port = free_port()
    with process(__file__, "trivial", str(port), port=port) as server:
        url = f"http://127.0.0.1:{port}"
        base = wrk(url, asking("/", runs=runs), server=server, seconds=seconds)
        print(f"{'trivial handler':<28}{base.second:>9,.0f} a second {base.cpu_second:>9,.0f} a CPU second")
    port = free_port()
    with process("-m", "runfold", "api", port=port, **environment, RUNFOLD_API_PORT=str(port)) as server:
        for name, path, half in (
            ("retrieve", RETRIEVE, 5_000),
            (f"list of {LISTED}", f"/v1/threads/{{thread}}/runs?limit={LISTED}", 2_000),
            ("retrieve, the long way", f"{RETRIEVE}/", 1_000),
        ):
            rate = wrk(f"http://127.0.0.1:{port}", asking(path, runs=runs), server=server, seconds=seconds)
            of_trivial, calm = rate.cpu_second / base.cpu_second, min(half, int(rate.second / 2))
            found = asyncio.run(
                latencies(path, port=port, rate=calm, runs=runs, more=lambda sent, of=calm: sent < of * seconds)
            )
            print(
                f"{name:<28}{rate.second:>9,.0f} a second {rate.cpu_second:>9,.0f} a CPU second, {of_trivial:.2f} of "
                f"trivial; at {calm:,}/s {found}"
            )
        found = asyncio.run(latencies(MINUTES, port=port, rate=20, runs=runs, more=lambda sent: sent < 200))
        print(f"{'a day of minutes, one model':<28}at 20/s {found}")
        measure_beside_folding(environment, port=port, runs=runs)


def measure_beside_folding(environment: dict[str, str], *, port: int, runs: int) -> None:
    lay_out(Path(environment["RUNFOLD_DATA"]), runs)
    command = [sys.executable, "-m", "runfold", "serve", "--no-api", "--until-end"]
    with subprocess.Popen(command, env=os.environ | environment, stderr=subprocess.DEVNULL) as folding:
        begun = time.monotonic()
        found = asyncio.run(latencies(RETRIEVE, port=port, rate=500, runs=runs, more=lambda _: folding.poll() is None))
        took = time.monotonic() - begun
    print(
        f"{'retrieve, beside folding':<28}at 500/s {found}; folded {FOLDED / took:,.0f} events a second, its start included"
    )
    assert folding.returncode == 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["trivial"]:
        serve_trivially(int(sys.argv[2]))
    else:
        main()
