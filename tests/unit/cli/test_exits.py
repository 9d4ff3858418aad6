from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from cyclopts import App

from runfold.cli import exits
from runfold.cli.serve import _interrupt
from runfold.config import ConfigError
from runfold.log.checking import InvalidEvent
from runfold.log.port import LogError, LogMissing, LogUnreachable, RangeLost
from runfold.store.port import StalePosition, StoreBusy, StoreError, StoreRefused, StoreUnreachable


@pytest.fixture
def failing(monkeypatch):
    """Makes the next command raise an error."""

    def fail(error: BaseException) -> None:
        def raising(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(App, "__call__", raising)

    return fail


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (exits.NoError("x"), 1),
        (StalePosition("x"), 1),
        (exits.WrongUseError("x"), 2),
        (ConfigError("x"), 2),
        (InvalidEvent("id", "x"), 2),
        (StoreRefused("x"), 2),
        (StoreBusy("x"), 2),
        (LogError("x"), 2),
        (StoreUnreachable("x"), 3),
        (StoreError("x"), 3),
        (LogUnreachable("x"), 3),
        (LogMissing("x"), 3),
        (RangeLost(partition=0, wanted=1, begin=2), 3),
        (PermissionError("x"), 3),
        (KeyboardInterrupt(), 130),
        (ExceptionGroup("several", [ExceptionGroup("inner", [LogUnreachable("x")])]), 3),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_each_expected_error_has_its_exit_code(cli, failing, error, code):
    """Each error that people can act on ends the command with its exit code."""
    failing(error)
    assert cli("config").code == code


def test_each_line_of_a_message_is_told_on_stderr(cli, failing):
    """Each line of an error's message stands on stderr behind the name of the command, and nothing on stdout."""
    failing(ConfigError("RUNFOLD_A: wrong\nRUNFOLD_B: wrong too"))
    answer = cli("config")
    assert (answer.out, answer.err) == ("", "runfold: RUNFOLD_A: wrong\nrunfold: RUNFOLD_B: wrong too\n")


def test_what_is_too_much_is_told_in_our_words(cli):
    """A word that no parameter takes is named, and where to look."""
    answer = cli("serve", "extra")
    assert (answer.code, answer.err) == (2, "runfold: not understood: 'extra'; --help shows what can be given\n")


def test_a_message_shows_no_terminal_codes(cli, failing):
    """What others wrote, and an error repeats, does not speak to the terminal."""
    failing(ConfigError("run \x1b[2J of \u202e"))
    assert cli("config").err == "runfold: run \\x1b[2J of \\u202e\n"


def test_a_bug_keeps_its_traceback(cli, failing):
    """An error that nobody can act on is not dressed up as one."""
    failing(ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        cli("config")


def test_of_several_errors_the_first_is_told(cli, failing):
    """Where several things failed at once, the first of them is told."""
    failing(ExceptionGroup("several", [StoreUnreachable("the disk is full"), StoreRefused("other")]))
    answer = cli("config")
    assert (answer.code, answer.err) == (3, "runfold: the disk is full\n")


def test_a_bug_among_several_errors_keeps_its_traceback(cli, failing):
    """A bug is not hidden behind an expected error that came with it."""
    failing(ExceptionGroup("several", [StoreUnreachable("the disk is full"), ZeroDivisionError()]))
    with pytest.raises(ExceptionGroup):
        cli("config")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_an_answer_that_cannot_be_written_is_unreachable():
    """Where the disk has no room for the answer the command says so, once."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "runfold", "config"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (3, b"runfold: [Errno 28] No space left on device\n")


def test_a_second_interrupt_leaves_at_once(monkeypatch):
    """Ctrl-C asks serve to stop; a second one ends the process with 130."""
    left = []
    monkeypatch.setattr("os._exit", left.append)
    stop = asyncio.Event()
    _interrupt(stop)
    assert (stop.is_set(), left) == (True, [])
    _interrupt(stop)
    assert left == [130]
