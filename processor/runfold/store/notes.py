"""What people decided about records, as the fold and the replay read it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from runfold.store.port import Note

SET_ASIDE: Final = "set_aside"
DISCARD: Final = "discard"


def set_aside_of(notes: Iterable[Note]) -> dict[int, dict[int, str]]:
    """Per partition the offsets that are set aside, and why: the one kind of note that the fold obeys."""
    found: dict[int, dict[int, str]] = {}
    for note in notes:
        if note.kind == SET_ASIDE:
            found.setdefault(note.partition, {})[note.offset] = note.reason
    return found
