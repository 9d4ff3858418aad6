"""Folding into one shadow by several processes, each its own partitions, because a partition is a world of its own.

The processes share nothing but the shadow, whose transactions keep them apart. Each ends when this process does, however
it ends: its pipe is closed then. What may change here is how partitions are shared out.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from runfold.collector import LARGE_BATCHES, quieten_collector
from runfold.fold.rules import Rules
from runfold.interrupts import interrupts_blocked
from runfold.log.port import LogError, LogSource
from runfold.replay.run_range import bind, own_identity
from runfold.replay.shadow import Shadow
from runfold.store.port import Store, StoreError
from runfold_schemas.codec import decode_lean


class Share(Struct, frozen=True, kw_only=True):
    """What one process folds. ``open_source`` and ``open_store`` are called in it, so they have to be picklable."""

    open_source: Callable[[], LogSource]
    open_store: Callable[[], Store]
    rules: Rules
    set_aside: Mapping[int, Mapping[int, str]]
    starts: Mapping[int, int]
    ends: Mapping[int, int]


async def spread(share: Share, *, processes: int, told: Callable[[int], None]) -> None:
    """Fold a share by so many processes. ``told`` is called with the number of offsets that one of them has just folded.

    Raises what the first of them raised that failed; the others are ended then, and have lost a batch each at most.
    """
    parts = _shared_out(share, processes)
    async with asyncio.TaskGroup() as tasks:
        for part in parts:
            tasks.create_task(_run(part, told))


def _shared_out(share: Share, processes: int) -> list[Share]:
    """Partitions by how far each has to go, the longest first, each to whoever has the least until then."""
    loads = [0] * min(processes, len(share.ends))
    parts: list[list[int]] = [[] for _ in loads]
    distance = {which: max(0, end - share.starts[which]) for which, end in share.ends.items()}
    for which in sorted(distance, key=lambda each: -distance[each]):
        least = loads.index(min(loads))
        loads[least] += distance[which]
        parts[least].append(which)
    return [
        replace(
            share,
            starts={which: share.starts[which] for which in part},
            ends={which: share.ends[which] for which in part},
        )
        for part in parts
    ]


async def _run(part: Share, told: Callable[[int], None]) -> None:
    context = multiprocessing.get_context("spawn")  # a fork would inherit threads' locks and open databases
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(part, theirs), name="runfold-rebuild")
    try:
        with interrupts_blocked():  # Ctrl-C is for the one who starts this
            process.start()
        theirs.close()
        while True:
            try:
                said = await asyncio.to_thread(ours.recv)
            except EOFError:
                raise StoreError(f"a process of the rebuild ended with {process.exitcode}: start it again") from None
            if said is None:
                return
            if isinstance(said, BaseException):
                raise said
            told(said)
    finally:
        if process.pid is not None:
            process.kill()  # its transactions are whole or not at all
            await asyncio.to_thread(process.join)
        ours.close()


def _work(part: Share, pipe: Connection[Any, Any]) -> None:
    """The other process: it folds its share, says how far it has come, and ends as soon as nobody listens."""
    quieten_collector(LARGE_BATCHES)
    threading.Thread(target=_end_with_listener, args=(pipe,), daemon=True).start()
    try:
        asyncio.run(_fold(part, pipe))
    except (LogError, StoreError) as error:
        pipe.send(_sendable(error))
    else:
        pipe.send(None)


def _end_with_listener(pipe: Connection[Any, Any]) -> None:
    try:
        pipe.recv()  # nothing is ever said: it returns when the other end is closed
    except (EOFError, OSError):
        os._exit(1)


async def _fold(part: Share, pipe: Connection[Any, Any]) -> None:
    source, store = part.open_source(), part.open_store()
    done = 0

    def tell(now: int, _: int) -> None:
        nonlocal done
        pipe.send(now - done)
        done = now

    try:
        await source.start()
        await store.open()
        await bind(store, await own_identity(source, part.rules))
        shadow = Shadow(source, store, rules=part.rules, decode=decode_lean, set_aside=part.set_aside, progress=tell)
        await shadow.begin(part.starts)
        await shadow.advance(part.ends)
    finally:
        await store.close()
        await source.close()


def _sendable(error: LogError | StoreError) -> Exception:
    """The error itself, or one of its kind that can be pickled."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own, just made
    except Exception:  # noqa: BLE001 - whatever keeps it from being sent
        return (LogError if isinstance(error, LogError) else StoreError)(str(error))
    return error
