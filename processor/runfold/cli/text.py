"""Words on a line: what others wrote, so that it stays in its line, and numbers with their nouns."""

from __future__ import annotations


def escaped(text: str) -> str:
    """Text in one line, as it is where it can be printed; all else, such as newlines and a terminal's codes, escaped."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def counted(number: int, noun: str) -> str:
    """A number and what it counts: ``1 event``, ``2,000 events``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
