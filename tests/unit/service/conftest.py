"""The tests of the service serve in their own process."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _collector(collector: None) -> None:
    """Every test here needs it."""
