"""Fixtures of the fold's tests; what they give is in ``tests/support/fold_stories.py``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

from fold_stories import Partition, Story


@pytest.fixture
def story() -> Story:
    """A run of which nothing is known yet."""
    return Story()


@pytest.fixture(params=[True, False], ids=["compiled", "simple"])
def partition(request: pytest.FixtureRequest) -> Partition:
    """An empty partition under the default rules, with the compiled short cut and without."""
    return Partition(compiled=request.param)
