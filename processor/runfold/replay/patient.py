"""Waiting for work that has no bound in time, for as long as it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Stalled(Exception):
    """Nothing has moved for too long; the message says what stood still, and where (exit code 3)."""


async def patient(
    work: Coroutine[Any, Any, None], *, seen: Callable[[], object], seconds: float, told: Callable[[], str]
) -> None:
    """Run ``work`` to its end. Raises Stalled when ``seen()`` gives the same for ``seconds``; ``told()`` says where it stands.

    Work that moves is never ended, however long it takes.
    """
    task = asyncio.ensure_future(work)
    try:
        before = seen()
        while not (await asyncio.wait((task,), timeout=seconds))[0]:
            after = seen()
            if after == before:
                raise Stalled(f"no progress for {seconds:g} s (--patience): {told()}")
            before = after
        task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
