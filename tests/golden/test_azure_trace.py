"""Oracle: 19,366 requests that a cloud provider recorded, as runs. What they used is known to the last token.

However often events are delivered, in whatever order, and however often the worker is killed meanwhile: the totals are the
file's own, and so is every minute.
"""

from __future__ import annotations

import asyncio
import signal
from collections import defaultdict
from pathlib import Path
from random import Random

import pytest
from azure_trace import Minutes, events_of, minutes_of_file, needs_trace, requests, told
from serving import fill, fold_quietly, messages, server, settings_of, stored

from runfold import wiring
from runfold.fold.usage import SUMS

pytestmark = [
    needs_trace,
    pytest.mark.usefixtures("collector"),
]


async def minutes_of_store(folder: Path) -> Minutes:
    """Runs, prompt and completion tokens by minute, as the store has them."""
    wanted = [SUMS.index(name) for name in ("runs", "prompt_tokens", "completion_tokens")]
    sums: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    store = wiring.open_store(settings_of(folder))
    await store.open(write=False)
    for row in await store.usage():
        for place, of in enumerate(wanted):
            sums[row.bucket.minute][place] += row.sums[of]
    await store.close()
    return {minute: (of[0], of[1], of[2]) for minute, of in sums.items()}


async def serve_to_the_end(folder: Path) -> None:
    async with server(folder) as service:
        await service.start("--until-end")
        assert await service.ended() == 0


async def killed_on_the_way(folder: Path, *, times: int, random: Random) -> None:
    """Lives of the service, each ended with kill -9 after a random number of commits and a random while."""
    for _ in range(times):
        async with server(folder, batch_records=500) as service:
            await service.start()
            await service.said("partitions_taken")
            for _ in range(random.randrange(1 + 300 // times)):
                await service.said("batch_committed")
            await asyncio.sleep(random.uniform(0, 0.01))  # the instant of death, not a condition
            assert await service.stop(signal.SIGKILL) == -signal.SIGKILL


def test_the_file_is_the_published_one() -> None:
    """The trace has 19,366 requests with 22,361,870 prompt and 4,088,665 completion tokens."""
    known = requests()
    assert len(known) == 19_366
    assert sum(prompt for _, prompt, _ in known) == 22_361_870
    assert sum(completion for _, _, completion in known) == 4_088_665


async def test_usage_is_the_files_own(tmp_path: Path) -> None:
    """Folded once and in order, every minute of usage is the file's own, to the token."""
    await fill(tmp_path, messages(told([events_of(*numbered) for numbered in enumerate(requests())])))
    await serve_to_the_end(tmp_path)
    found = await minutes_of_store(tmp_path)
    assert found == minutes_of_file()
    assert [sum(of) for of in zip(*found.values(), strict=True)] == [19_366, 22_361_870, 4_088_665]


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.faults)])
async def test_usage_under_hostility(tmp_path: Path, kills: int) -> None:
    """With every event delivered three times, all shuffled, and the worker killed at random points, nothing changes."""
    random = Random(19_366)
    delivered = 3 * told([events_of(*numbered) for numbered in enumerate(requests())])
    random.shuffle(delivered)
    await fill(tmp_path, messages(delivered))
    await killed_on_the_way(tmp_path, times=kills, random=random)
    half_way = (await stored(tmp_path)).records
    await serve_to_the_end(tmp_path)
    assert 0 < half_way < len(delivered), "the kills fell outside of the work"
    assert await minutes_of_store(tmp_path) == minutes_of_file()
    assert await stored(tmp_path) == await fold_quietly(tmp_path)
