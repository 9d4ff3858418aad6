"""The command ``runfold``. Only its outermost guard stands here, so that Ctrl-C during the imports leaves no trace either."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import NoReturn

INTERRUPTED, TERMINATED = 130, 143


def main() -> None:
    """Run the command line of this process and end it with the exit code of :mod:`runfold.cli.exits`.

    While modules are imported Ctrl-C ends the process there and then: nothing is open yet, and Python loses interrupts that
    reach it inside of an import. Once a verb has ended, it changes nothing any more.
    """
    _open_what_is_closed()
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave_at_once)
    from runfold.cli.app import import_verb  # noqa: PLC0415 - the imports take time: see above
    from runfold.cli.exits import run  # noqa: PLC0415

    import_verb(sys.argv[1:])
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = run(sys.argv[1:])
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:
        _leave_at_once()
    sys.exit(code)


def _leave_at_once(*_: object) -> NoReturn:
    with suppress(OSError):  # nobody may be there to be told
        os.write(2, b"runfold: interrupted\n")
    os._exit(INTERRUPTED)


def _open_what_is_closed() -> None:
    """A stream that the caller closed (``>&-``) leads nowhere; else the next file opened, a store, would take its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - open while we run


def _leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    """What is open is closed, and what is temporary removed; verbs that stay up set a handler of their own."""
    raise SystemExit(TERMINATED)
