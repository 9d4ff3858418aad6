"""The real command, in a process of its own: exit codes, streams, signals, completion, what it imports."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from runfold import __version__
from runfold_schemas import RunCompleted, RunCreated, RunQueued

AT = 1_760_000_000_000


def created(run_id: str = "run_1", **told: object) -> RunCreated:
    return RunCreated(run_id=run_id, thread_id="t", id=f"{run_id}-1", occurred_at=AT, **told)


def wait_for(words: bytes, process: subprocess.Popen[bytes]) -> None:
    """Wait until the process says so in its logs; fail where it ends before."""
    for line in process.stderr:
        if words in line:
            return
    pytest.fail(f"the process ended with {process.wait()} without saying {words!r}")


def test_the_version_is_told(command):
    """--version tells the version and nothing else."""
    answer = command("--version")
    assert (answer.code, answer.out) == (0, f"{__version__}\n")


def test_the_console_script_is_the_same_command():
    """The script that installing makes runs the same command as ``python -m runfold``."""
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="runfold")
    assert script.value == "runfold.cli:main"


def test_help_names_every_verb_and_the_exit_codes(command):
    """--help names each verb, and what the exit codes mean."""
    out = command("--help").out
    verbs = "publish capture serve demo runs usage status dead-letters replay store config --install-completion 130 143"
    assert all(word in out for word in verbs.split())


@pytest.mark.parametrize(
    ("verb", "told"),
    [(("publish",), "how many were published"), (("capture",), "how many events"), (("runs", "get"), "A JSON object")],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_help_says_what_json_prints(cli, verb, told):
    """Where --json prints one object and no lines, --help says which."""
    assert told in cli(*verb, "--help").out


def test_help_says_which_minutes_a_period_has(cli):
    """usage --help says how a period that begins in mid-minute is rounded."""
    assert "--from 12:00:30 begins with 12:01" in " ".join(cli("usage", "--help").out.split())


def test_help_imports_no_adapter():
    """--help answers without importing what only running a verb needs."""
    code = (
        "import sys; from runfold.cli.exits import run; run(['--help']);"
        "sys.exit(any(name in sys.modules for name in ('sqlite3', 'structlog', 'runfold.wiring', 'runfold_schemas')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("publsh",),
        ("runs", "lst"),
        ("runs", "get"),
        ("runs", "list", "--stats", "queued"),
        ("runs", "list", "--status", "done"),
        ("runs", "list", "--limit", "-1"),
        ("status", "--watch", "--every", "0"),
        ("publish", "--unknown"),
        ("publish", "--rate", "fast"),
        ("usage", "--from", "yesterday"),
        ("dead-letters", "show", "12"),
        ("capture", "xml", "-"),
        ("config", "--log", "ftp://host"),
        ("demo", "--seconds", "0"),
        ("serve", "extra"),
        ("capture", "sse", "/nowhere"),
    ],
    ids=" ".join,
)
def test_wrong_use_is_told_in_a_line(command, words):
    """Wrong use ends with 2, a line on stderr and nothing on stdout."""
    answer = command(*words)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("runfold: ")
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    "words", [("runs", "list"), ("status",), ("replay", "verify"), ("usage",), ("store", "digest")]
)
def test_a_store_or_log_that_is_not_there_is_unreachable(command, words):
    """A verb that reads ends with 3 where there is no log and no store, and makes neither."""
    answer = command(*words)
    assert (answer.code, answer.out) == (3, "")
    assert "RUNFOLD_" in answer.err
    assert "Traceback" not in answer.err


def test_all_wrong_settings_are_told_at_once(command):
    """Every setting that is wrong is named, each in a line of its own."""
    answer = command("status", RUNFOLD_LEASE="long", RUNFOLD_PARTITIONS="0")
    assert answer.code == 2
    assert [line.split()[1] for line in answer.err.splitlines()] == ["RUNFOLD_PARTITIONS", "RUNFOLD_LEASE"]


def test_a_reader_that_leaves_is_no_error(started, append, fold):
    """Behind `| head` the command ends in silence."""
    append([created(f"run_{number}") for number in range(2000)])
    fold()
    process = started("runs", "list", "--limit", "0", "--json")
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(30) == 0
    assert process.stderr.read() == b""


@pytest.mark.parametrize("words", [("--help",), ("runs", "--help"), ("runs", "list", "--limit", "0")], ids=" ".join)
def test_a_reader_that_leaves_at_once_is_no_error(started, append, fold, words):
    """Help and tables, too, end in silence where nobody reads them."""
    append([created(f"run_{number}") for number in range(2000)])
    fold()
    process = started(*words)
    process.stdout.close()
    assert process.wait(30) == 0
    assert process.stderr.read() == b""


@pytest.mark.parametrize("words", [("--help",), ("runs", "list"), ("config",), ("publish",)], ids=" ".join)
def test_streams_that_are_closed_are_no_error(append, fold, words):
    """Without stdin, stdout and stderr a command does what it does, and tells nobody."""
    append([created()])
    fold()
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-m", "runfold", *words]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0


def test_stdout_has_the_answer_alone(command, append, fold):
    """With --json stdout can be piped on: the Run and nothing else."""
    append([created()])
    fold()
    answer = command("runs", "get", "run_1", "--json")
    assert [line["id"] for line in answer.lines] == ["run_1"]


def test_ctrl_c_ends_with_130_and_no_traceback(started, append, fold):
    """Ctrl-C in the middle of watching ends with 130, in one line."""
    append([created()])
    fold()
    process = started("runs", "watch", "run_1")
    assert b"queued" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert process.stderr.read() == b"runfold: interrupted\n"


def test_ctrl_c_before_anything_was_sent(started, data):
    """Ctrl-C ends a publish that has had no input yet, without a doubt about what is in the log."""
    process = started("publish", "-")
    ready = threading.Event()
    while not (data / "runfold.log.db").exists():
        ready.wait(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert b"known" not in process.stderr.read()


def test_ctrl_c_while_standard_input_is_silent(started):
    """Ctrl-C ends a publish that waits for more input, and says what is in the log."""
    serving = started("serve", "--no-api")
    process = started("publish", "-")
    process.stdin.write(b'{"type":"thread.run.queued","run_id":"r","thread_id":"t"}\n')
    process.stdin.flush()
    wait_for(b"batch_committed", serving)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    err = process.stderr.read()
    assert b"1 event published, the last is line 1\n" in err


def test_serve_until_end_folds_what_is_there(command, append):
    """serve --until-end folds all that the log has, and leaves."""
    append([created(model="m"), RunCompleted(run_id="run_1", thread_id="t", id="2", occurred_at=AT + 5)])
    assert command("serve", "--until-end").code == 0
    assert command("runs", "get", "run_1", "--json").lines[0]["status"] == "completed"


def test_serve_until_end_without_a_log_is_unreachable(command, data):
    """serve --until-end ends with 3 where there is no log, and makes nothing."""
    assert command("serve", "--until-end").code == 3
    assert not data.exists()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_serve_leaves_when_told(started, append, how):
    """SIGTERM and Ctrl-C end serve with 0, its partitions released."""
    append([created()])
    process = started("serve", "--no-api")
    wait_for(b"batch_committed", process)
    process.send_signal(how)
    assert process.wait(30) == 0
    assert b"partitions_released" in process.stderr.read()


def test_a_second_server_is_refused(started, command, append):
    """A store that another process serves is refused with 2, naming its pid."""
    append([created()])
    process = started("serve", "--no-api")
    wait_for(b"batch_committed", process)
    answer = command("serve", "--no-api")
    assert answer.code == 2
    assert str(process.pid) in answer.err


@pytest.mark.parametrize(
    ("shell", "written"), [("bash", b"runfold"), ("zsh", b"#compdef runfold"), ("fish", b"runfold")]
)
def test_completion_is_installed(tmp_path, command, shell, written):
    """--install-completion writes a script for the shell, which knows verbs, their verbs and their options."""
    answer = command(
        "--install-completion",
        "--shell",
        shell,
        HOME=str(tmp_path),
        SHELL=f"/bin/{shell}",
        XDG_CONFIG_HOME="",
        XDG_DATA_HOME="",
    )
    assert answer.code == 0, answer.err
    scripts = b"".join(path.read_bytes() for path in tmp_path.rglob("*runfold*") if path.is_file())
    assert all(word in scripts for word in (written, b"dead-letters", b"discard", b"until-ended"))


def test_events_are_watched_as_they_come(started, append):
    """runs watch shows a run that is not there yet once it comes, each change of it, and leaves at its end."""
    append([created("other")])
    serving = started("serve", "--no-api")
    wait_for(b"batch_committed", serving)
    watching = started("runs", "watch", "run_1", "--until-ended", "--every", "0.02")
    assert b"there is no run 'run_1' yet" in watching.stderr.readline()
    append([created()])
    assert b"queued" in watching.stdout.readline()
    append([RunQueued(run_id="run_1", thread_id="t", id="2", occurred_at=AT + 1)])
    append([RunCompleted(run_id="run_1", thread_id="t", id="3", occurred_at=AT + 2)])
    assert watching.wait(30) == 0
    assert b"completed" in watching.stdout.read()
