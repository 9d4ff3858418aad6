from __future__ import annotations

import msgspec
import pytest

RUN = {
    "id": "run_1",
    "object": "thread.run",
    "thread_id": "thread_1",
    "assistant_id": "asst_1",
    "created_at": 1_760_000_000,
    "started_at": 1_760_000_001,
    "completed_at": 1_760_000_003,
    "status": "completed",
    "model": "gpt-4o",
    "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
}


@pytest.fixture
def runs(tmp_path):
    """A file with one good Run and one line that is none."""
    file = tmp_path / "runs.jsonl"
    file.write_bytes(msgspec.json.encode(RUN) + b"\n")
    return file


@pytest.fixture
def broken(tmp_path):
    """A file whose second line cannot be understood."""
    file = tmp_path / "broken.jsonl"
    file.write_bytes(msgspec.json.encode(RUN) + b"\n{nope\n" + msgspec.json.encode(RUN | {"id": "run_2"}) + b"\n")
    return file


def test_runs_become_events_in_the_log(runs, cli, fold):
    """A Run that is captured and folded is the Run again."""
    answer = cli("capture", "runs", str(runs))
    fold()
    (run,) = cli("runs", "get", "run_1", "--json").lines
    assert (answer.code, run["status"], run["usage"]["total_tokens"]) == (0, "completed", 7)


def test_capturing_twice_changes_nothing(runs, cli, fold):
    """The same input once more leaves the store as it is."""
    cli("capture", "runs", str(runs))
    fold()
    before = cli("runs", "get", "run_1", "--json").out
    cli("capture", "runs", str(runs), str(runs))
    fold()
    assert cli("runs", "get", "run_1", "--json").out == before


def test_the_counts_are_told(runs, cli):
    """How many events, ignored things and problems there were stands on stderr, and with --json on stdout."""
    answer = cli("capture", "runs", str(runs), "--json")
    (told,) = answer.lines
    assert told["problems"] == told["ignored"] == 0
    assert answer.err == f"{told['events']} events, 0 ignored, 0 problems\n"


def test_print_prints_and_publishes_nothing(runs, cli, data):
    """--print writes the events as JSON Lines on stdout, and makes no log."""
    answer = cli("capture", "runs", str(runs), "--print")
    assert answer.lines[0]["type"] == "thread.run.created"
    assert answer.lines[-1]["type"] == "thread.run.completed"
    assert not data.exists()


def test_what_is_printed_can_be_published(runs, cli, tmp_path, fold):
    """The events that --print writes are what publish reads: unnumbered, with their ids."""
    file = tmp_path / "events.jsonl"
    file.write_text(cli("capture", "runs", str(runs), "--print").out)
    assert cli("publish", str(file)).code == 0
    assert cli("capture", "runs", str(runs)).code == 0
    fold()
    assert cli("status", "--json").lines[0]["runs"]["completed"] == 1


def test_a_problem_is_named_and_the_rest_goes_on(broken, cli, fold):
    """What cannot be understood is named with file and line; what follows is captured; the exit code is 1."""
    answer = cli("capture", "runs", str(broken))
    fold()
    assert answer.code == 1
    assert answer.err.startswith(f"{broken}:2: ")
    assert [run["id"] for run in cli("runs", "list", "--json").lines] == ["run_2", "run_1"]


def test_files_that_cannot_be_read_are_wrong_use(runs, tmp_path, cli, data):
    """Every file that cannot be read is named, and nothing of the others is captured."""
    answer = cli("capture", "runs", "/nowhere.json", str(runs), str(tmp_path))
    assert (answer.code, answer.err.splitlines()) == (
        2,
        [
            "runfold: /nowhere.json: cannot be read: No such file or directory",
            f"runfold: {tmp_path}: cannot be read: Is a directory",
        ],
    )
    assert not data.exists()


def test_a_run_that_the_log_would_refuse_is_a_problem(tmp_path, cli):
    """A body whose time lies far in the future is named, and the rest of the same file is published."""
    file = tmp_path / "runs.jsonl"
    later = RUN | {"id": "run_2", "created_at": 32_000_000_000, "started_at": None, "completed_at": 32_000_000_000}
    file.write_bytes(msgspec.json.encode([RUN, later]))
    answer = cli("capture", "runs", str(file))
    assert answer.code == 1
    assert answer.err.endswith(", 1 problem\n")


def test_streams_come_from_standard_input(command):
    """A recorded stream on standard input is captured; the mark of its end is ignored."""
    stream = b"event: thread.run.completed\ndata: " + msgspec.json.encode(RUN) + b"\n\nevent: done\ndata: [DONE]\n\n"
    answer = command("capture", "sse", "-", "--print", stdin=stream)
    assert answer.code == 0
    assert answer.lines[-1]["type"] == "thread.run.completed"
    assert "1 ignored, 0 problems" in answer.err
