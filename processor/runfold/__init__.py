"""runfold: Run state changes as immutable events, folded exactly once into current Runs and what they used."""

from __future__ import annotations

__version__ = "0.1.0"
