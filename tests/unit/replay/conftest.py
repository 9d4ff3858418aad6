"""Fixtures of the tests of replay; what they give is in ``tests/support/replay_world.py``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

from replay_world import opened


@pytest.fixture
async def world(tmp_path):
    """An empty log of two partitions, and an empty store."""
    async with opened(tmp_path) as made:
        yield made


@pytest.fixture
async def served(tmp_path):
    """Eight whole runs, of which one was corrected, one broken record and one repeated event, all folded."""
    from replay_world import correction, life, run_ids

    from runfold.log.port import Message

    async with opened(tmp_path) as made:
        runs = run_ids(8)
        for number, run_id in enumerate(runs):
            await made.publish(*life(run_id, at=number * 40, tokens=number + 1))
        await made.publish(correction(runs[2], tokens=70), life(runs[3])[1], Message(runs[4].encode(), b"broken"))
        await made.serve()
        yield made
