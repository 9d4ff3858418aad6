"""Fixtures of the service's tests; what they are made of is in ``tests/support/serving.py``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))


@pytest.fixture(autouse=True)
def collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector of the tests' own process is left as it is."""
    monkeypatch.setattr("runfold.service.serve._quieten_collector", lambda: None)
