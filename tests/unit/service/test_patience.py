"""Patience: what fails is tried again, ever more slowly, for so long and no longer."""

from __future__ import annotations

import asyncio

import pytest

from runfold.service.patience import Patience

FAULT = RuntimeError("still failing")


async def exhaust(patience: Patience) -> tuple[int, float]:
    """Tries and seconds until patience is at its end."""
    loop = asyncio.get_running_loop()
    begun, tries = loop.time(), 0
    with pytest.raises(RuntimeError, match="still failing"):
        while True:
            tries += 1
            await patience.bear(FAULT)
    return tries, loop.time() - begun


async def test_it_ends_on_time_after_few_tries() -> None:
    """Patience ends when its seconds are over, and does not fill them with tries."""
    tries, seconds = await exhaust(Patience(0.3, asyncio.Event()))
    assert 0.3 <= seconds < 0.6
    assert 3 < tries < 60


async def test_the_first_failure_is_tried_again_at_once() -> None:
    """The first failure costs no pause: a write through the door is no reason to wait."""
    begun = asyncio.get_running_loop().time()
    await Patience(10, asyncio.Event()).bear(FAULT)
    assert asyncio.get_running_loop().time() - begun < 0.1


async def test_a_success_in_between_starts_it_anew() -> None:
    """Failures long ago do not count: only those without a success in between."""
    patience = Patience(0.2, asyncio.Event())
    await exhaust(patience)
    patience.rewarded()
    await patience.bear(FAULT)


async def test_none_at_all() -> None:
    """With no seconds of patience the first failure is the last."""
    assert (await exhaust(Patience(0, asyncio.Event())))[0] == 1


async def test_a_stop_ends_the_pause() -> None:
    """Whoever is told to stop does not wait for the next try."""
    stop = asyncio.Event()
    stop.set()
    patience = Patience(3600, stop)
    async with asyncio.timeout(1):
        for _ in range(100):
            await patience.bear(FAULT)
