"""The command ``runfold``. Only its outermost guard stands here, so that Ctrl-C during the imports leaves no trace either."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

INTERRUPTED, TERMINATED = 130, 143


def main() -> None:
    """Run the command line of this process and end it with the exit code of :mod:`runfold.cli.exits`."""
    _open_what_is_closed()
    signal.signal(signal.SIGTERM, _leave)
    try:
        from runfold.cli.exits import run  # noqa: PLC0415 - the imports take time, and are interrupted as all else is

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


def _open_what_is_closed() -> None:
    """A stream that the caller closed (``>&-``) leads nowhere; else the next file opened, a store, would take its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - open while we run


def _leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    """What is open is closed, and what is temporary removed; verbs that stay up set a handler of their own."""
    raise SystemExit(TERMINATED)
