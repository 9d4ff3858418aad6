"""How a command ends: the one place where errors become exit codes and messages on stderr.

0 it is done; 1 the answer is no; 2 wrong use or setting; 3 log or store unreachable; 130 interrupted; 143 terminated. An
error that is not in the table is a bug and keeps its traceback. A new kind of error that people can act on is added to
``_meanings``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence

from cyclopts import CycloptsError, UnusedCliTokensError

from runfold.cli.console import PipedConsole
from runfold.cli.text import escaped

DONE, NO, WRONG_USE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130


class WrongUseError(Exception):
    """The command line, or a file that it names, cannot be used."""


class NoError(Exception):
    """The answer is no, and the message says why."""


def run(tokens: Sequence[str]) -> int:
    """Run one command line and return its exit code, having told people what went wrong."""
    from runfold.cli.app import command_line  # noqa: PLC0415 - app.py imports what this module defines

    try:
        code = command_line(next(iter(tokens), None))(list(tokens), console=PipedConsole())
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - _end raises again what it does not know
        return _end(error)
    return code if isinstance(code, int) else DONE


def _end(error: BaseException) -> int:
    """Say what the error means and return its code; raise what nobody can act on."""
    meaning = meaning_of(error)
    if meaning is None:
        raise error
    cause, code = meaning
    if isinstance(cause, BrokenPipeError):
        _drop_output()  # nobody reads on, as behind `| head`
    else:
        _flush_output()
        tell_cause(_words_of(cause))
    return code


def meaning_of(error: BaseException) -> tuple[BaseException, int] | None:
    """The error that people can act on, and its code; None for a bug.

    Of several errors at once the first is meant, unless there is a bug among them.
    """
    meanings = [(cause, _code_of(cause)) for cause in _leaves(error)]
    cause, code = meanings[0]
    if code is None or any(other is None for _, other in meanings):
        return None
    return cause, code


def tell_cause(words: str) -> None:
    """Say on stderr why a command ends."""
    for line in filter(None, map(str.strip, words.splitlines())):
        print(f"runfold: {escaped(line)}", file=sys.stderr, flush=True)  # noqa: T201 - this is where a command speaks


def _words_of(cause: BaseException) -> str:
    if isinstance(cause, KeyboardInterrupt):
        return "interrupted"
    if isinstance(cause, UnusedCliTokensError):
        return f"not understood: {' '.join(map(repr, cause.unused_tokens or ()))}; --help shows what can be given"
    return str(cause)


def _flush_output() -> None:
    """What was printed before the error stands before its message; that it cannot be printed matters no more now."""
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()


def _drop_output() -> None:
    """Nobody gets the rest of the output: what is still buffered would fail once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group, or the one error itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _code_of(error: BaseException) -> int | None:
    return next((code for kind, code in _meanings() if isinstance(error, kind)), None)


def _meanings() -> list[tuple[type[BaseException], int]]:
    """What each error means; the first that fits counts. Imported here, because a command that succeeds needs none."""
    from runfold.config import ConfigError  # noqa: PLC0415
    from runfold.demo.run_demo import DemoFailed  # noqa: PLC0415
    from runfold.log.checking import InvalidEvent  # noqa: PLC0415
    from runfold.log.port import LogError, LogMissing, LogUnreachable, RangeLost  # noqa: PLC0415
    from runfold.service.serve import DrainExceeded  # noqa: PLC0415
    from runfold.store.port import StalePosition, StoreBusy, StoreError, StoreRefused  # noqa: PLC0415

    return [
        (KeyboardInterrupt, INTERRUPTED),
        (BrokenPipeError, DONE),
        (NoError, NO),
        (DemoFailed, NO),
        (DrainExceeded, NO),
        (WrongUseError, WRONG_USE),
        (CycloptsError, WRONG_USE),
        (ConfigError, WRONG_USE),
        (InvalidEvent, WRONG_USE),
        (StoreRefused, WRONG_USE),
        (StoreBusy, WRONG_USE),
        (StalePosition, NO),
        (StoreError, UNREACHABLE),
        (LogMissing, UNREACHABLE),
        (LogUnreachable, UNREACHABLE),
        (RangeLost, UNREACHABLE),
        (LogError, WRONG_USE),
        (OSError, UNREACHABLE),  # a folder that cannot be made, an answer that the disk has no room for
    ]
