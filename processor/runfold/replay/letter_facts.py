"""A dead letter as JSON shows it, whoever asks. Looks only; nothing is read here."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from runfold.fold.changes import Letter
from runfold.fold.rules import Rules
from runfold.replay.refold import readable


def as_dict(letter: Letter, discarded: str | None, rules: Rules, *, whole: bool = False) -> dict[str, Any]:
    """A letter as JSON shows it; its bytes, in base64 and as text where they are text, only where it is wanted whole."""
    told: dict[str, Any] = {
        "partition": letter.partition,
        "offset": letter.offset,
        "timestamp": known_time(letter.timestamp),
        "reason": letter.reason,
        "detail": letter.detail,
        "run_id": letter.run_id,
        "bytes": len(letter.value or b""),
        "readable": bool(readable([letter], rules=rules)),
        "discarded": discarded,
    }
    if whole:
        told |= {name: text_of(value) for name, value in (("key", letter.key), ("value", letter.value))}
        told |= {f"{name}_base64": _base64(value) for name, value in (("key", letter.key), ("value", letter.value))}
        told["headers"] = [[name, _base64(value)] for name, value in letter.headers]
    return told


def known_time(timestamp: int) -> int | None:
    """A record's timestamp; None where it has none."""
    return timestamp if timestamp >= 0 else None


def text_of(value: bytes | None) -> str | None:
    """Bytes as text, where they are text."""
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _base64(value: bytes | None) -> str | None:
    return None if value is None else b64encode(value).decode()
