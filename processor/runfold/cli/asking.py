"""Asking people before anything is changed. Where nobody can be asked, ``--yes`` has to say it."""

from __future__ import annotations

import sys

from runfold.cli.exits import NoError, WrongUseError


def confirmed(question: str, *, yes: bool) -> None:
    """Return where the answer is yes. Raises NoError where it is anything else, WrongUseError where nobody can answer."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise WrongUseError("nothing was done: nobody can be asked here, so say --yes where you mean it")
    sys.stdout.flush()
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)  # noqa: T201 - prompts go to stderr
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise NoError("nothing was done")
