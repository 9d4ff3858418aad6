from __future__ import annotations

import pytest

from runfold_schemas import RunCompleted, RunCreated, RunInProgress, RunUsageCorrected, Usage

AT = 1_760_000_000_000


def used(tokens: int) -> Usage:
    return Usage(prompt_tokens=tokens, completion_tokens=2, total_tokens=tokens + 2)


@pytest.fixture(autouse=True)
def world(append, fold):
    """A run that ended and was corrected, record by record at offsets 0 to 3 of its partition."""
    told = {"run_id": "a", "thread_id": "t", "source": "s"}
    append(
        [
            RunCreated(**told, id="1", occurred_at=AT, sequence=1, model="m", metadata={"project_id": "p"}),
            RunInProgress(**told, id="2", occurred_at=AT + 1000, sequence=2),
            RunCompleted(**told, id="3", occurred_at=AT + 2000, sequence=3, usage=used(5)),
            RunUsageCorrected(**told, id="4", occurred_at=AT + 3000, sequence=4, usage=used(9), reason="recount"),
        ]
    )
    fold()


@pytest.fixture
def partition(cli):
    """Where the run lies."""
    return cli("replay", "history", "a", "--json").lines[0]["partition"]


def test_a_run_is_shown_as_it_stood_behind_a_record(cli, partition):
    """Behind its second record it was in progress, as the log tells; the Run is whole."""
    (told,) = cli("replay", "as-of", "run", "a", "--offset", f"{partition}:1", "--json").lines
    assert (told["run"]["status"], told["from"], told["position"]) == ("in_progress", "log", 2)
    assert told["run"]["usage"] is None


def test_a_run_as_of_a_time_to_come_is_the_stores(cli):
    """Nothing stands behind it, so the store answers, with the very Run that it shows."""
    (told,) = cli("replay", "as-of", "run", "a", "--at", "2099-01-01", "--json").lines
    assert (told["from"], told["run"]) == ("store", cli("runs", "get", "a", "--json").lines[0])


def test_people_are_told_where_the_answer_came_from(cli, partition):
    """Facts on stdout, their origin on stderr."""
    answer = cli("replay", "as-of", "run", "a", "--offset", f"{partition}:0")
    assert "queued" in answer.out
    assert f"as the log tells, before offset 1 of partition {partition}" in answer.err


def test_before_its_first_record_a_run_was_not_known(cli):
    """Exit code 1, and nothing on stdout."""
    answer = cli("replay", "as-of", "run", "a", "--at", "2020-01-01")
    assert (answer.code, answer.out) == (1, "")
    assert "nothing was known" in answer.err


def test_runs_are_listed_as_they_stood(cli, partition):
    """A run that has ended since is listed in the status of then, and found by it."""
    words = ("replay", "as-of", "runs", "--offset", f"{partition}:1", "--json")
    assert [run["status"] for run in cli(*words, "--status", "in_progress").lines] == ["in_progress"]
    assert cli(*words, "--status", "completed").lines == []
    assert "in_progress" in cli(*words[:-1]).out


def test_usage_is_shown_as_it_was_known(cli, partition):
    """Before the correction the end's tokens, behind it the correction's; from the store and from the log alike."""
    for offset, tokens in ((2, 5), (3, 9)):
        words = ("replay", "as-of", "usage", "--offset", f"{partition}:{offset}", "--by", "model", "--json")
        for more in ((), ("--from-log",)):
            (line,) = cli(*words, *more).lines
            assert (line["model"], line["prompt_tokens"]) == ("m", tokens)
    assert "as the store tells; 1 change since" in cli(*words[:4], f"{partition}:2").err


def test_what_has_changed_since_is_listed(cli, partition):
    """The correction, with its place, its run and the difference that it made."""
    words = ("replay", "as-of", "usage", "--offset", f"{partition}:2", "--changes")
    (change,) = cli(*words, "--json").lines
    assert (change["kind"], change["run_id"], change["offset"]) == ("corrected", "a", 3)
    assert (change["prompt_tokens"], change["runs"]) == (4, 0)
    assert "prompt_tokens +4" in cli(*words).out


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--at", "now", "--offset", "0:1"),
        ("--offset", "nowhere"),
        ("--offset", "0:99"),
        ("--offset", "0:0", "--offset", "0:1"),
        ("--at", "some day"),
        ("--at", "now", "--json", "--csv"),
    ],
)
def test_what_is_no_instant_is_wrong_use(cli, words):
    """None, two, or one that cannot be: exit code 2, and a message that says what is wanted."""
    answer = cli("replay", "as-of", "usage", *words)
    assert (answer.code, answer.out) == (2, "")
    assert "wanted" in answer.err or "the log has" in answer.err or "choose one" in answer.err


def test_nothing_is_left_in_the_workspace(cli, partition, tmp_path):
    """What was folded for one answer is gone with it."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    assert cli("replay", "as-of", "runs", "--offset", f"{partition}:1", "--workspace", str(workspace)).code == 0
    assert list(workspace.iterdir()) == []
