"""A vector of log positions, as people and programs hand it around: ``0:12,1:7`` is the next offset of each partition."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from runfold.api.errors import BadRequest

Vector = Mapping[int, int]
"""Partition to the next offset: everything below it is meant."""

MOST: Final = 10_000
_PART: Final = re.compile(r"([0-9]{1,9}):([0-9]{1,18})")


def shown(vector: Vector) -> str:
    """The vector as text, by partition."""
    return ",".join(f"{partition}:{vector[partition]}" for partition in sorted(vector))


def read(text: str, *, param: str) -> dict[int, int]:
    """The vector that a text shows. Raises BadRequest that names ``param``."""
    parts = text.split(",", MOST)
    found = [_PART.fullmatch(part.strip()) for part in parts]
    vector = {int(part[1]): int(part[2]) for part in found if part is not None}
    if len(vector) != len(parts):
        raise BadRequest(
            f"Invalid value for '{param}': positions are wanted as partition:offset,partition:offset, each partition once.",
            param=param,
            code="invalid_value",
        )
    return vector
