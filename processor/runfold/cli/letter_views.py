"""How people see a dead letter: a row of a list, and all of it. Looks only; nothing is read here."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from runfold.cli.printing import shown_time
from runfold.fold.changes import Letter
from runfold.fold.rules import Rules
from runfold.replay.letter_facts import known_time, text_of
from runfold.replay.refold import readable

ROW = ("place", "reason", "run", "published (UTC)", "bytes", "why", "now")

_LONGEST_SHOWN = 2_000


def row(letter: Letter, discarded: str | None, rules: Rules) -> tuple[object, ...]:
    """A letter in the columns of ``ROW``; ``discarded`` is the reason somebody gave."""
    return (
        f"{letter.partition}:{letter.offset}",
        letter.reason,
        letter.run_id,
        shown_time(known_time(letter.timestamp)),
        len(letter.value or b""),
        letter.detail,
        _now(letter, discarded, rules),
    )


def facts(letter: Letter, discarded: str | None, rules: Rules) -> Iterator[tuple[str, object]]:
    """All that is known of a letter: names and values."""
    yield "place", f"partition {letter.partition}, offset {letter.offset}"
    yield "published (UTC)", shown_time(known_time(letter.timestamp))
    yield "reason", letter.reason
    yield "why", letter.detail
    yield "run", letter.run_id
    yield "key", None if letter.key is None else _shown(letter.key)
    for name, value in letter.headers:
        yield f"header {name}", None if value is None else _shown(value)
    yield "value", None if letter.value is None else _shown(letter.value).splitlines()
    yield "now", _now(letter, discarded, rules)
    yield "discarded", discarded


def _now(letter: Letter, discarded: str | None, rules: Rules) -> str:
    if discarded is not None:
        return "discarded"
    return "readable" if readable([letter], rules=rules) else ""


def _shown(value: bytes) -> str:
    """Bytes as people can read them: text, decoded MessagePack, or Python's way of writing bytes."""
    text = text_of(value)
    if text is None:
        try:
            text = msgspec.json.encode(msgspec.msgpack.decode(value)).decode()
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError):
            text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}... ({len(value):,} bytes; --json has all)"
