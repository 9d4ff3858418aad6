"""What JSON can express. MessagePack can carry more, and such a value could be folded but never be shown to anybody.

The check runs for the free-form fields of every decoded event, so it is written for speed. The depth is bounded by a
number rather than by the interpreter's stack: whether an event is readable must not depend on who calls the codec.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from typing import Any

MOST_NESTED = 100
"""How deep lists and objects may stand in one another."""

_PLAIN = frozenset({str, int, bool, type(None)})


def are_json(values: Iterable[Any]) -> bool:
    """Tell whether JSON can express all values: string keys, finite numbers, no bytes or extension types, not too deep."""
    found = list(filter(None, values))
    for value in found:  # which grows while it is walked
        kind = type(value)
        if kind is dict:
            for key, item in value.items():
                if type(key) is not str:
                    return False
                if type(item) not in _PLAIN:
                    found.append(item)
        elif kind is list:
            found += value
        elif kind is float:
            if not isfinite(value):
                return False
        elif kind not in _PLAIN:
            return False
    return len(found) <= MOST_NESTED or _depth(values) <= MOST_NESTED


def _depth(values: Iterable[Any]) -> int:
    """How deep lists and objects stand in one another: only asked where there are enough of them to be too deep."""
    depth = 0
    while level := [value for value in values if type(value) in (dict, list)]:
        depth += 1
        values = [item for value in level for item in (value.values() if type(value) is dict else value)]
    return depth
