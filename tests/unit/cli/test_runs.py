from __future__ import annotations

import pytest

from runfold_schemas import (
    RunCompleted,
    RunCreated,
    RunFailed,
    RunInProgress,
    RunModified,
    RunRequiresAction,
    Usage,
)

AT = 1_760_000_000_000
USAGE = Usage(prompt_tokens=1200, completion_tokens=34, total_tokens=1234)


@pytest.fixture(autouse=True)
def store(append, fold):
    """Three runs: one that completed, one that failed and lacks a number, one whose created has not come."""
    ours = {"thread_id": "thread_1", "source": "s"}
    append(
        [
            RunCreated(
                run_id="run_1", id="1", occurred_at=AT, sequence=1, model="gpt-4o", assistant_id="asst_1", **ours
            ),
            RunInProgress(run_id="run_1", id="2", occurred_at=AT + 1000, sequence=2, **ours),
            RunCompleted(run_id="run_1", id="3", occurred_at=AT + 3000, sequence=3, usage=USAGE, **ours),
            RunCreated(
                run_id="run_2",
                thread_id="thread_2",
                id="1",
                occurred_at=AT + 10_000,
                source="s",
                sequence=1,
                model="o3",
            ),
            RunFailed(run_id="run_2", thread_id="thread_2", id="3", occurred_at=AT + 20_000, source="s", sequence=3),
            RunInProgress(run_id="run_3", thread_id="thread_1", id="1", occurred_at=AT + 30_000),
        ]
    )
    fold()


def ids(answer):
    return [run["id"] for run in answer.lines]


def test_runs_are_listed_newest_first(cli):
    """Without a filter every run is listed, the newest first."""
    assert ids(cli("runs", "list", "--json")) == ["run_3", "run_2", "run_1"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--status", "failed"], ["run_2"]),
        (["--thread", "thread_1"], ["run_3", "run_1"]),
        (["--model", "gpt-4o"], ["run_1"]),
        (["--assistant", "asst_1"], ["run_1"]),
        (["--incomplete"], ["run_3"]),
        (["--missing"], ["run_2"]),
        (["--flagged"], ["run_3", "run_2"]),
        (["--limit", "1"], ["run_3"]),
        (["--limit", "0"], ["run_3", "run_2", "run_1"]),
        (["--after", "run_3", "--limit", "1"], ["run_2"]),
        (["--status", "queued"], []),
    ],
    ids=" ".join,
)
def test_runs_are_filtered(cli, words, expected):
    """Each filter leaves exactly the runs it names."""
    assert ids(cli("runs", "list", "--json", *words)) == expected


def test_people_get_a_table(cli):
    """Without --json the list is a table: times in UTC, the unknown a hyphen, never 0."""
    lines = cli("runs", "list").out.splitlines()
    assert lines[0].split() == ["run", "status", "model", "assistant", "created", "ended", "tokens", "flags"]
    assert lines[2].split() == ["run_3", "in_progress", "-", "-", "2025-10-09", "08:53:50", "-", "-", "incomplete"]
    assert lines[4].split()[-3:] == ["08:53:23", "1,234", "-"]


def test_a_short_list_says_how_to_go_on(cli):
    """A list that its limit cut says so on stderr."""
    assert "--after run_3" in cli("runs", "list", "--limit", "1").err


def test_get_prints_the_run_and_nothing_else(cli):
    """With --json one line: the Run."""
    (run,) = cli("runs", "get", "run_1", "--json").lines
    assert (run["object"], run["status"], run["completed_at"]) == ("thread.run", "completed", AT // 1000 + 3)


def test_get_shows_people_everything(cli):
    """Without --json: the Run's fields, its timeline, what is missing, where its events lie."""
    out = cli("runs", "get", "run_2").out
    assert "2025-10-09 08:53:40  failed" in out
    assert "2 to 2" in out
    assert "offsets" in out


def test_a_run_that_is_not_there_is_a_no(cli):
    """There is no such run: exit code 1, and a line that says so."""
    answer = cli("runs", "get", "run_9", "--json")
    assert (answer.code, answer.out, answer.err) == (1, "", "runfold: there is no run 'run_9' in the store\n")


def test_watching_an_ended_run_shows_it_once(cli):
    """--until-ended leaves at once where the run has ended already."""
    assert cli("runs", "watch", "run_1", "--until-ended").out == "2025-10-09 08:53:23  completed  1,234 tokens\n"


def test_what_publishers_write_cannot_drive_the_terminal(cli, append, fold):
    """Control characters and markup in names are shown as text."""
    name = "run_\x1b[2J[red]x"
    append([RunCreated(run_id=name, thread_id="t", id="1", occurred_at=AT)])
    fold()
    out = cli("runs", "list").out
    assert "\x1b" not in out
    assert "[red]x" in out


def test_free_values_stay_json(cli, append, fold):
    """What a run waits for, and its metadata, are shown as JSON."""
    action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": []}}
    append(
        [
            RunRequiresAction(run_id="run_3", thread_id="t", id="2", occurred_at=AT + 31_000, required_action=action),
            RunModified(run_id="run_3", thread_id="t", id="3", occurred_at=AT + 31_000, metadata={"team": "Ω"}),
        ]
    )
    fold()
    out = cli("runs", "get", "run_3").out
    assert '{"team":"Ω"}' in out
    assert '"tool_calls":[]' in out
