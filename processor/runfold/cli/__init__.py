"""The command ``runfold``. Only its outermost guard stands here, so that Ctrl-C during the imports leaves no trace either."""

from __future__ import annotations

import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command line of this process and end it with the exit code of :mod:`runfold.cli.exits`."""
    try:
        from runfold.cli.exits import run  # noqa: PLC0415 - the imports take time, and are interrupted as all else is

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)
