"""The command ``runfold``. Only its outermost guard stands here, so that Ctrl-C during the imports leaves no trace either."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import NoReturn

INTERRUPTED, TERMINATED = 130, 143


def main() -> None:
    """Run the command line of this process and end it with the exit code of :mod:`runfold.cli.exits`."""
    signal.signal(signal.SIGTERM, _leave)
    try:
        from runfold.cli.exits import run  # noqa: PLC0415 - the imports take time, and are interrupted as all else is

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


def _leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    """What is open is closed, and what is temporary removed; verbs that stay up set a handler of their own."""
    raise SystemExit(TERMINATED)
