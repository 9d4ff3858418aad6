"""Fixtures of the tests that let processes die; what they are made of is in ``tests/support``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))


@pytest.fixture
def count(request: pytest.FixtureRequest) -> Callable[[int], int]:
    """Turns the full count of a fault into the one for this run: all with ``-m faults``, else a tenth."""
    full = "faults" in request.config.getoption("-m")
    return lambda most: most if full else max(1, most // 10)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector of the tests' own process is left as it is."""
    monkeypatch.setattr("runfold.service.serve._quieten_collector", lambda: None)
