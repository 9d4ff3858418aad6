"""The garbage collector of verbs that fold."""

from __future__ import annotations

import gc


def quieten_collector() -> None:
    """What lives now lives on, and a batch leaves no cycles: look for garbage rarely, as the service does."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 20)
