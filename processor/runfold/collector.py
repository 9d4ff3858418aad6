"""Python's collector of cycles, for processes that live long: a look at everything takes 30 ms, in which nobody is answered."""

from __future__ import annotations

import gc
from typing import Final

LARGE_BATCHES: Final = 1_000_000
"""For who folds large batches and then ends: the objects of one of them are not looked at while it is in hand."""


def quieten_collector(young: int = 200_000) -> None:
    """What lives now lives on, and neither a batch nor an answer leaves cycles: look for garbage rarely, and among the new.

    ``young`` is how many objects more than went may have come before it looks.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(young, 20, 20)
