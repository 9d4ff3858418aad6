"""A vector of log positions, as people and programs hand it around: ``0:12,1:7`` is the next offset of each partition."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import msgspec

from runfold.api.errors import BadRequest

Vector = Mapping[int, int]
"""Partition to the next offset: everything below it is meant."""

MOST: Final = 10_000
_decode = msgspec.json.Decoder(dict[str, int]).decode
_PART: Final = re.compile(r"([0-9]{1,9}):([0-9]{1,18})")


def shown(vector: Vector) -> str:
    """The vector as text, by partition."""
    return ",".join(f"{partition}:{vector[partition]}" for partition in sorted(vector))


def read(text: str, *, param: str) -> dict[int, int]:
    """The vector that a text shows. Raises BadRequest that names ``param``."""
    parts = _of_json(text).split(",", MOST)
    found = [_PART.fullmatch(part.strip()) for part in parts]
    vector = {int(part[1]): int(part[2]) for part in found if part is not None}
    if len(vector) != len(parts):
        raise BadRequest(
            f"Invalid value for '{param}': positions are wanted as partition:offset,partition:offset, each partition once, or "
            "as the `position` of an answer.",
            param=param,
            code="invalid_value",
        )
    return vector


def _of_json(text: str) -> str:
    """The ``position`` of an answer's body, as it came: a JSON object."""
    with suppress(msgspec.MsgspecError):
        return ",".join(f"{partition}:{offset}" for partition, offset in _decode(text).items())
    return text
