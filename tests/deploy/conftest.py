"""What the tests of the deployment share."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    """No setting of whoever runs the tests gets into them."""
    for name in [name for name in os.environ if name.startswith(("RUNFOLD_", "PG"))]:
        monkeypatch.delenv(name)
