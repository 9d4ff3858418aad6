from __future__ import annotations

import signal
import sqlite3
from contextlib import closing

import msgspec
import pytest

from runfold.log.port import Message
from runfold_schemas import RunCompleted, RunCreated, RunInProgress, RunUsageCorrected, Usage

AT = 1_760_000_000_000
USAGE = Usage(prompt_tokens=5, completion_tokens=2, total_tokens=7)


@pytest.fixture(autouse=True)
def world(append, fold):
    """A run from its begin to its end, with one event twice and one broken record between."""
    started = RunInProgress(run_id="a", thread_id="t", id="2", occurred_at=AT + 1000, source="s", sequence=2)
    append(
        [
            RunCreated(run_id="a", thread_id="t", id="1", occurred_at=AT, source="s", sequence=1, model="m"),
            started,
            started,
            Message(b"a", b"garbage"),
            RunCompleted(run_id="a", thread_id="t", id="3", occurred_at=AT + 2000, usage=USAGE, source="s", sequence=3),
        ]
    )
    fold()


def spoil(data, statement):
    """Write into the store's file behind everybody's back."""
    with closing(sqlite3.connect(data / "runfold.db")) as db, db:
        db.execute(statement)


def test_history_has_every_record_and_what_became_of_it(cli):
    """History tells of each record its event, its outcome and what it changed."""
    entries = cli("replay", "history", "a", "--json").lines
    assert [entry["outcome"] for entry in entries] == ["applied", "applied", "duplicate", "rejected", "applied"]
    assert [entry["offset"] for entry in entries] == [0, 1, 2, 3, 4]
    assert entries[1]["changed"]["status"] == {"before": "queued", "after": "in_progress"}
    assert entries[3]["reason"] == "malformed"
    assert (entries[4]["usage"][0]["total_tokens"], entries[4]["usage"][0]["model"]) == (7, "m")


def test_people_get_a_table_of_it(cli):
    """Without --json history is a table."""
    out = cli("replay", "history", "a").out
    assert "status: queued -> in_progress" in out
    assert "rejected: malformed" in out
    assert "total_tokens +7" in out


def test_the_history_of_no_run_is_a_no(cli):
    """There is no such run: exit code 1."""
    answer = cli("replay", "history", "zzz")
    assert (answer.code, answer.out) == (1, "")


def test_verify_of_a_right_store_is_identical(cli):
    """Verify ends with 0, and shows the digest of each partition from both sides."""
    answer = cli("replay", "verify")
    assert answer.code == 0
    assert answer.out.splitlines()[-1] == "identical: 5 records folded again"
    digests = cli("store", "digest", "--json").lines[0]
    assert all(digest in answer.out for digest in digests["partitions"].values())


def test_verify_tells_machines_both_digests(cli):
    """With --json one object: identical, the digests, the positions."""
    (told,) = cli("replay", "verify", "--json").lines
    assert told["identical"] is True
    assert told["stored"] == told["recomputed"]
    assert sum(told["positions"].values()) == told["records"] == 5


def test_verify_names_what_differs(cli, data):
    """One token too many in one usage row: exit code 1, and the field and both values are named."""
    spoil(data, "update usage set total_tokens = total_tokens + 1")
    answer = cli("replay", "verify")
    assert answer.code == 1
    assert "total_tokens: the store has 8, the log says 7" in answer.out
    assert answer.out.splitlines()[-1].startswith("different")


def test_verify_of_a_missing_run_says_so(cli, data):
    """A run that the store lost is named, in JSON as well."""
    spoil(data, "delete from run")
    answer = cli("replay", "verify", "--json")
    assert answer.code == 1
    assert any(finding["table"] == "run" and finding["key"] == "a" for finding in answer.lines[0]["findings"])
    assert "the store lacks it" in cli("replay", "verify").out


def test_verify_leaves_nothing_in_its_workspace(cli, tmp_path):
    """The workspace is as empty afterwards as it was before."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    assert cli("replay", "verify", "--workspace", str(workspace)).code == 0
    assert list(workspace.iterdir()) == []


def test_a_workspace_that_is_not_there_is_wrong_use(cli):
    """The folder has to exist."""
    assert cli("replay", "verify", "--workspace", "/nowhere").code == 2


def test_history_is_followed_until_interrupted(started, append):
    """With --follow each further record is a line when it comes; Ctrl-C ends with 130."""
    process = started("replay", "history", "a", "--follow", "--json")
    lines = [msgspec.json.decode(process.stdout.readline()) for _ in range(5)]
    assert lines[-1]["type"] == "thread.run.completed"
    append([RunUsageCorrected(run_id="a", thread_id="t", id="4", occurred_at=AT + 3000, usage=USAGE)])
    assert msgspec.json.decode(process.stdout.readline())["type"] == "thread.run.usage_corrected"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130


def test_people_following_see_what_changed(started):
    """Without --json an entry is a line, with what it changed beneath it."""
    process = started("replay", "history", "a", "--follow")
    lines = iter(process.stdout.readline, b"")
    assert b"    status: queued -> in_progress\n" in lines
