"""What freshness costs: nobody waits for a count of much that is wanting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from api_serving import publish_and_fold
from serving import Scripted

from runfold.api import freshness
from runfold.api.freshness import Counting
from runfold.log.port import Message
from runfold.store.sqlite import SqliteStore


class Slow:
    """Holds calls up for as long as it is told to, and counts them."""

    def __init__(self) -> None:
        self.passing, self.calls = asyncio.Event(), 0
        self.passing.set()

    async def hold(self, real: Callable[[], Any]) -> Any:
        self.calls += 1
        await self.passing.wait()
        return await real()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with a dead letter."""
    publish_and_fold(tmp_path, [Message(b"run_1", b"nonsense")])
    return tmp_path


async def test_a_count_that_takes_long_keeps_nobody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it goes on, what was counted before is told, and no other one begins; once it is done, its counts are told."""
    monkeypatch.setattr(freshness, "COUNTING_SECONDS", 0.01)
    slow, inner = Slow(), SqliteStore(folder / "runfold.db")
    await inner.open(write=False)
    counting = Counting(Scripted(inner, count_letters=slow.hold))
    assert (await counting.count()).rejected == 1
    slow.passing.clear()
    before = slow.calls
    assert [(await counting.count()).rejected for _ in range(3)] == [1, 1, 1]
    assert slow.calls == before + 1
    slow.passing.set()
    async with asyncio.timeout(10):
        await counting.close()
        await inner.close()


async def test_counting_pauses_the_longer_the_longer_it_took(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a count that took long the next one is put off; behind a short one it is not."""
    slow, inner = Slow(), SqliteStore(folder / "runfold.db")
    await inner.open(write=False)
    counting = Counting(Scripted(inner, count_letters=slow.hold))
    for _ in range(3):
        await counting.count()
    assert slow.calls == 3
    monkeypatch.setattr(freshness, "COUNTING_SECONDS", -1.0)  # whatever it takes is long
    monkeypatch.setattr(freshness, "_PAUSE_PER_SECOND", 10**9)
    counting = Counting(Scripted(inner, count_letters=slow.hold))
    for _ in range(3):
        await counting.count()
    assert slow.calls == 4
    await inner.close()
