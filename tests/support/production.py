"""Events as a platform in production sends them: mostly whole runs of about five events, and all that goes wrong.

Of the events some come twice, late or never; of the ends some are corrected, contradicted by a second end, or differ from
themselves under one id; a few records are broken, of an unknown type, or carry the key of nobody. Everything comes from the
random generator that is passed in.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import islice
from random import Random

from msgspec.structs import replace

from runfold.demo.traffic import interleaved
from runfold.log.port import Message
from runfold_schemas import Event, RunEnded, RunFailed, RunUsageCorrected, Usage, encode
from runfold_schemas.testing import broken

LATEST = 2_000
"""So many records later, at most, comes what is late or comes again."""


def production(count: int, random: Random, *, open_runs: int = 1_000) -> list[Message]:
    """That many records, in the order in which they are published."""
    return list(islice(production_without_end(random, open_runs=open_runs), count))


def production_without_end(random: Random, *, open_runs: int = 1_000) -> Iterator[Message]:
    """Each message as soon as it is made, or behind up to LATEST others."""
    waiting: list[tuple[int, int, Message]] = []
    place = 0
    for event in interleaved(open_runs, random, source="platform", start=1_760_000_000_000):
        for message, late in _sent(event, random):
            place += 1
            due = place + (random.randrange(LATEST) if late else 0)
            heapq.heappush(waiting, (due, place, message))
        while waiting and waiting[0][0] <= place:
            yield heapq.heappop(waiting)[2]


def _sent(event: Event, random: Random) -> Iterator[tuple[Message, bool]]:
    """What is sent of one event, and of each whether it is late."""
    chance = random.random()
    if chance < 0.005:
        return  # never comes: a gap
    yield _message(event), chance > 0.98
    if chance < 0.015:
        yield _message(event), True
    if chance > 0.998:
        yield from ((odd, False) for odd in _odd(event, random))
    if isinstance(event, RunEnded):
        yield from ((_message(more), True) for more in _after_the_end(event, random))


def _after_the_end(end: RunEnded, random: Random) -> Iterator[Event]:
    names = {"run_id": end.run_id, "thread_id": end.thread_id, "occurred_at": end.occurred_at + 1_000}
    chance = random.random()
    if chance < 0.02:
        prompt = random.randrange(5_000)
        usage = Usage(prompt_tokens=prompt, completion_tokens=7, total_tokens=prompt + 7)
        yield RunUsageCorrected(**names, id=f"c{random.getrandbits(60)}", source="billing", usage=usage, reason="bill")
    elif chance < 0.025:
        yield RunFailed(**names, id=f"f{random.getrandbits(60)}", source="watchdog")
    elif chance < 0.028:
        yield replace(end, usage=None, last_error={"code": "server_error"})


def _odd(event: Event, random: Random) -> Iterator[Message]:
    key, value = _message(event)[:2]
    yield random.choice(
        (
            Message(key, broken(value, random)),
            Message(key, random.randbytes(40)),
            Message(b"run_of_nobody", value),
            Message(key, b'{"type":"thread.run.dreamt","run_id":"%b"}' % key),
        )
    )


def _message(event: Event) -> Message:
    return Message(event.run_id.encode(), encode(event))
