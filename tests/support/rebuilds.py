"""What the tests of rebuilds share: traffic with all blemishes that logs have, and the command in processes that die.

``python rebuilds.py WHERE WHEN WORD...`` runs the command line WORD..., and kills itself ``before`` or ``after`` the function
WHERE (``module:name``, with ``@text`` behind it: when one of its arguments has that text), or is ``interrupted`` after it.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from serving import fill

from runfold import wiring
from runfold.config import Settings
from runfold.demo.traffic import interleaved
from runfold.log.port import Message
from runfold.service.serve import serve
from runfold.store.digest import StoreDigest, digest
from runfold_schemas import Event, RunCompleted, RunEnded, RunFailed, RunUsageCorrected, Usage, encode


def blemished(count: int, *, seed: int = 1, open_runs: int = 500) -> Iterator[Message]:
    """Traffic with 1 % repeated, 0.1 % missing, out of order, and broken records each, second ends and corrections."""
    random = Random(seed)
    late: list[tuple[int, Message]] = []
    for place, event in enumerate(islice(interleaved(open_runs, random, source="platform"), count)):
        while late and late[0][0] <= place:
            yield late.pop(0)[1]
        luck, message = random.random(), _message(event)
        if luck < 0.001:
            continue  # a gap in its source's numbers
        if luck < 0.002:
            late.append((place + random.randrange(1, 40), message))  # out of order
        else:
            yield message
        if luck > 0.99:
            late.append((place + random.randrange(1, 2_000), message))  # sent again
        if 0.5 < luck < 0.501:
            yield Message(message.key, random.choice((b"broken", b'{"type":"thread.run.dreamt","id":"1"}', b"")))
        if isinstance(event, RunEnded) and luck < 0.02:
            late.append((place + random.randrange(1, 2_000), _message(_after_the_end(event, random))))
        late.sort(key=lambda each: each[0])
    yield from (message for _, message in late)


def _after_the_end(event: RunEnded, random: Random) -> Event:
    told = {name: getattr(event, name) for name in ("run_id", "thread_id")}
    told |= {"occurred_at": event.occurred_at + 60_000, "id": f"after-{random.getrandbits(32):x}", "source": "billing"}
    if random.random() < 0.5:
        tokens = random.randrange(1_000)
        usage = Usage(prompt_tokens=tokens, completion_tokens=1, total_tokens=tokens + 1)
        return RunUsageCorrected(**told, sequence=1, usage=usage)
    other = RunFailed if isinstance(event, RunCompleted) else RunCompleted
    return other(**told, sequence=1, usage=event.usage)


def _message(event: Event) -> Message:
    return Message(event.run_id.encode(), encode(event))


async def served(settings: Settings, count: int) -> StoreDigest:
    """The store after so many records, folded by the service."""
    await fill(settings.data, list(blemished(count)))
    source, store = wiring.open_source(settings), wiring.open_store(settings)
    await serve(settings, source, store, until_end=True, stop=asyncio.Event())
    return await held(settings)


async def held(settings: Settings) -> StoreDigest:
    """The digest of the live store."""
    store = wiring.open_store(settings)
    await store.open(write=False)
    view = await store.snapshot()
    try:
        return await digest(view)
    finally:
        await view.close()
        await store.close()


class Command:
    """``runfold`` in a process of its own, on the places of some settings; ``dying`` as this file's own paragraph says.

    ``largest_file`` is in bytes.
    """

    def __init__(
        self, settings: Settings, *words: str, dying: tuple[str, str] | None = None, largest_file: int | None = None
    ) -> None:
        places = ("--log", settings.log, "--store", settings.store)
        begin = ("-m", "runfold") if dying is None else (__file__, *dying)
        self._words = (sys.executable, *begin, *words, *places)
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RUNFOLD_")},
            "RUNFOLD_DATA": str(settings.data),
        }
        self._largest_file = largest_file
        self.process: Any = None
        self.progress: list[dict[str, Any]] = []
        self.told = ""

    async def start(self) -> None:
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(
            *self._words,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            preexec_fn=self._limit,
        )

    def _limit(self) -> None:
        """No file may become larger, as on a disk that has no room."""
        if self._largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self._largest_file, resource.RLIM_INFINITY))

    async def next_progress(self) -> dict[str, Any] | None:
        """The next line of progress, None at the end."""
        while line := (await self.process.stderr.readline()).decode():
            if line.startswith('{"event":"progress"'):
                self.progress.append(json.loads(line))
                return self.progress[-1]
            self.told += line
        return None

    async def ended(self) -> tuple[int, dict[str, Any] | None]:
        """The exit code, and the object on stdout, if there is one."""
        while await self.next_progress():
            pass
        out = (await self.process.stdout.read()).decode()
        return await self.process.wait(), json.loads(out) if out else None

    def send(self, how: signal.Signals) -> None:
        if self.process.returncode is None:
            self.process.send_signal(how)


async def commanded(settings: Settings, *words: str, **given: Any) -> tuple[int, Any, str]:
    """Exit code, the object on stdout and what was told on stderr of one command; ``given`` as :class:`Command` takes it."""
    command = Command(settings, *words, **given)
    await command.start()
    try:
        async with asyncio.timeout(1_800):  # the tests have their own bounds
            code, found = await command.ended()
    finally:
        command.send(signal.SIGKILL)
    return code, found, command.told


def _die_at(where: str, when: str) -> None:
    place, _, text = where.partition("@")
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for each in owners:
        owner = getattr(owner, each)
    function = getattr(owner, name)

    def fitting(given: tuple[Any, ...]) -> bool:
        return not text or any(isinstance(each, str) and text in each for each in given)

    def at(instant: str, given: tuple[Any, ...]) -> None:
        if fitting(given) and instant == "before" == when:
            os.kill(os.getpid(), signal.SIGKILL)
        elif fitting(given) and instant == "after" and when != "before":
            os.kill(os.getpid(), signal.SIGKILL if when == "after" else signal.SIGINT)

    def dying(*given: Any, **named: Any) -> Any:
        at("before", given)
        result = function(*given, **named)
        at("after", given)
        return result

    async def dying_later(*given: Any, **named: Any) -> Any:
        at("before", given)
        result = await function(*given, **named)
        at("after", given)
        return result

    setattr(owner, name, dying_later if inspect.iscoroutinefunction(function) else dying)


def store_of(folder: Path, url: str | None) -> str:
    """The URL of the store: that of PostgreSQL, if there is one, else a file in the data folder."""
    return url or f"sqlite:///{folder}/runfold.db"


if __name__ == "__main__":
    from runfold.cli import main

    _die_at(sys.argv[1], sys.argv[2])
    sys.argv[1:] = sys.argv[3:]
    sys.exit(main())
