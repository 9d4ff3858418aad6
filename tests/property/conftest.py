"""Puts the strategies and stories of ``tests/support`` within reach; a busy machine is no reason for a property to fail."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
