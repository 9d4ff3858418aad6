"""The outside world's ways of showing a Run, turned into events: what the CLI's ``capture`` needs is named here."""

from __future__ import annotations

from runfold.capture.problem import Problem
from runfold.capture.read import KINDS, Captured, Finished, capture
from runfold.capture.snapshot import Snapshot, snapshot

__all__ = ["KINDS", "Captured", "Finished", "Problem", "Snapshot", "capture", "snapshot"]
