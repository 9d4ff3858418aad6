"""Where a MessagePack value ends: what tells concatenated values apart without decoding them."""

from __future__ import annotations

LONGEST = 16 * 2**20
"""Bytes that one value may take: as many as RUNFOLD_LARGEST_VALUE may allow an event."""

_NEVER = 0xC1
# By head byte: how many bytes follow; or how many bytes give the length, how many follow besides, and how many values each
# unit of length stands for (0: it counts bytes).
_FIXED = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
_FIXED |= {0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}
_BYTES = {0xC4: (1, 0, 0), 0xC5: (2, 0, 0), 0xC6: (4, 0, 0)}
_EXTENSIONS = {0xC7: (1, 1, 0), 0xC8: (2, 1, 0), 0xC9: (4, 1, 0)}
_TEXT = {0xD9: (1, 0, 0), 0xDA: (2, 0, 0), 0xDB: (4, 0, 0)}
_NESTED = {0xDC: (2, 0, 1), 0xDD: (4, 0, 1), 0xDE: (2, 0, 2), 0xDF: (4, 0, 2)}
_COUNTED = _BYTES | _EXTENSIONS | _TEXT | _NESTED


class BrokenFrameError(ValueError):
    """What stands here is no MessagePack value: where the next one begins cannot be known."""


def frame_end(data: bytes, begin: int) -> int | None:
    """Behind the last byte of the value that begins at ``begin``; None where ``data`` ends before it does.

    Raises BrokenFrameError.
    """
    at, values, size = begin, 1, len(data)
    while values:
        if at >= size:
            return None
        head = data[at]
        at, values = at + 1, values - 1
        if head <= 0x7F or head >= 0xE0:
            continue
        if head <= 0x8F:
            values += 2 * (head & 0x0F)
        elif head <= 0x9F:
            values += head & 0x0F
        elif head <= 0xBF:
            at += head & 0x1F
        elif head == _NEVER:
            raise BrokenFrameError(f"byte 0xc1 at {at - 1}, which MessagePack never uses")
        elif head in _FIXED:
            at += _FIXED[head]
        else:
            width, extra, each = _COUNTED[head]
            length = int.from_bytes(data[at : at + width], "big")
            at += width + extra
            values += each * length
            at += 0 if each else length
    return at if at <= size else None
