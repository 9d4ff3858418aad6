"""What all tests share: ``tests/support`` within reach, and a garbage collector that nobody has tuned."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "support"))

pytest_plugins = ["postgres_fixtures"]


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serving in the tests' own process leaves its garbage collector as it is."""
    monkeypatch.setattr("runfold.service.serve._quieten_collector", lambda: None)
