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


def are_json(values: Iterable[Any]) -> bool:  # noqa: C901 - one loop: calls would double what it costs
    """Tell whether JSON can express all values: string keys, finite numbers, no bytes or extension types, not too deep."""
    level = [value for value in values if value and type(value) is not str]
    if not level:
        return True
    for _ in range(MOST_NESTED + 1):
        deeper: list[Any] = []
        for value in level:
            kind = type(value)
            if kind is dict:
                for key, item in value.items():
                    if type(key) is not str:
                        return False
                    if type(item) not in _PLAIN:
                        deeper.append(item)
            elif kind is list:
                deeper += value
            elif kind is float:
                if not isfinite(value):
                    return False
            elif kind not in _PLAIN:
                return False
        if not deeper:
            return True
        level = deeper
    return False
