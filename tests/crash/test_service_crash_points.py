"""A store that fails at call n, for every n, before the call is done and after it: whatever fails, nothing shows of it."""

# ruff: noqa: ASYNC240 - a test may wait for its own files

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from serving import fill, fold_quietly, held_by, messages, settings_of, traffic

from runfold.log.port import LogUnreachable, Message
from runfold.log.sqlite import SqliteSource
from runfold.service.serve import serve
from runfold.store.port import StalePosition, StoreUnreachable
from runfold.store.sqlite import SqliteStore

CALLS = ("open", "bind", "claim", "notes", "load", "apply", "renew", "leave")


class Killed(BaseException):
    """Stands for a process that ends in the middle of things: nobody catches it."""


class Failing:
    """Hands calls on, and at the n-th of them raises ``fault``: before it is done, or after."""

    def __init__(
        self, inner: Any, names: tuple[str, ...], *, fault: BaseException | None, at: int, after: bool
    ) -> None:
        self._inner, self._names = inner, names
        self._fault, self._at, self._after = fault, at, after
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._inner, name)
        return self._counted(real) if name in self._names else real

    def _counted(self, real: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(*given: Any, **options: Any) -> Any:
            self.calls += 1
            failing = self.calls == self._at and self._fault is not None
            if failing and not self._after:
                raise self._fault
            answer = await real(*given, **options)
            if failing:
                raise self._fault
            return answer

        return call


@pytest.fixture
async def folder(tmp_path: Path, collector: None) -> Path:
    """A log in which every batch has new runs, old runs, letters and a duplicate."""
    written = messages(traffic(150, open_runs=8))
    broken = [Message(b"run_broken", b"\xc1"), written[30]]
    await fill(tmp_path, [*written[:80], *broken, *written[80:]], partitions=2)
    return tmp_path


async def run_once(folder: Path, store: Any, source: Any = None) -> None:
    settings = settings_of(folder, batch_records=30, batch_linger=0)
    source = source or SqliteSource(folder / "runfold.log.db")
    await serve(settings, source, store, until_end=True, stop=asyncio.Event())


async def result_of(folder: Path) -> Any:
    store = SqliteStore(folder / "runfold.db")
    await store.open(write=False)
    held = await held_by(store)
    await store.close()
    for file in folder.glob("runfold.db*"):
        file.unlink()
    return held


async def calls_of(folder: Path) -> int:
    """How many calls the quiet run makes of the store."""
    store = Failing(SqliteStore(folder / "runfold.db"), CALLS, fault=None, at=0, after=False)
    await run_once(folder, store)
    await result_of(folder)
    return store.calls


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "fault", [Killed(), StoreUnreachable("gone"), StalePosition("moved")], ids=lambda f: type(f).__name__
)
async def test_a_store_that_fails_at_any_call(folder: Path, fault: BaseException, after: bool) -> None:
    """Whichever call of the store fails, before or after it was done, the next start comes to the quiet run's store."""
    quiet = await fold_quietly(folder)
    for at in range(1, await calls_of(folder) + 1):
        failing = Failing(SqliteStore(folder / "runfold.db"), CALLS, fault=fault, at=at, after=after)
        try:
            await run_once(folder, failing)
        except (Killed, StoreUnreachable, StalePosition):
            await run_once(folder, SqliteStore(folder / "runfold.db"))
        assert await result_of(folder) == quiet, f"call {at}"


async def test_only_the_start_gives_up_at_once(folder: Path) -> None:
    """A store that fails once after the first partitions were taken is borne with: the service goes on by itself."""
    quiet = await fold_quietly(folder)
    for at in range(5, await calls_of(folder)):
        fault = StoreUnreachable("gone")
        await run_once(folder, Failing(SqliteStore(folder / "runfold.db"), CALLS, fault=fault, at=at, after=True))
        assert await result_of(folder) == quiet, f"call {at}"


async def test_a_log_that_fails_at_any_fetch(folder: Path) -> None:
    """Whichever fetch from the log fails, with its records already read past, the service reads them again."""
    quiet = await fold_quietly(folder)
    for at in range(1, 8):
        source = SqliteSource(folder / "runfold.log.db")
        failing = Failing(source, ("fetch",), fault=LogUnreachable("gone"), at=at, after=True)
        await run_once(folder, SqliteStore(folder / "runfold.db"), failing)
        assert await result_of(folder) == quiet, f"fetch {at}"
