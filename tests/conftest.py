"""What all tests share: a real Kafka, and a garbage collector that nobody has tuned."""

from __future__ import annotations

import pytest

pytest_plugins = ["kafka_fixtures", "postgres_fixtures"]


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serving in the tests' own process leaves its garbage collector as it is."""
    monkeypatch.setattr("runfold.service.serve._quieten_collector", lambda: None)
