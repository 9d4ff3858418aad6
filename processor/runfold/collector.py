"""Python's collector of cycles, for processes that live long: a look at everything takes 30 ms, in which nobody is answered."""

from __future__ import annotations

import gc


def quieten_collector() -> None:
    """What lives now lives on, and neither a batch nor an answer leaves cycles: look for garbage rarely, and among the new."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 20)
