from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from runfold.fold.state import decode_state, encode_state
from runfold_schemas import RunCompleted, RunCreated, RunInProgress, Usage

AT = 1_760_000_000_000
USAGE = Usage(prompt_tokens=5, completion_tokens=2, total_tokens=7)


def run_of(run_id):
    common = {"run_id": run_id, "thread_id": "t", "source": "s"}
    return [
        RunCreated(**common, id="1", occurred_at=AT, sequence=1, model="m"),
        RunInProgress(**common, id="2", occurred_at=AT + 1000, sequence=2),
        RunCompleted(**common, id="3", occurred_at=AT + 2000, sequence=3, usage=USAGE),
    ]


@pytest.fixture(autouse=True)
def world(append, fold):
    """Two runs from begin to end, folded."""
    append([*run_of("a"), *run_of("b")])
    fold()


@pytest.fixture
def spoilt(data):
    """The live store has a run's status wrong, and another run not at all."""
    with closing(sqlite3.connect(data / "runfold.db")) as db, db:
        db.execute("update run set status = 1 where run_id = 'a'")
        db.execute("delete from run where run_id = 'b'")


def standing(cli):
    return {row["role"]: row for row in cli("replay", "rebuild", "--status", "--json").lines}


def test_a_store_that_is_right_is_identical(cli):
    """Exit code 0, and people are told of every partition that it is the same."""
    answer = cli("replay", "rebuild")
    assert answer.code == 0
    assert "the same" in answer.out
    assert "identical; 6 records folded" in answer.out


def test_machines_get_one_object(cli):
    """With --json the answer is all there is on stdout."""
    (found,) = cli("replay", "rebuild", "--json").lines
    assert (found["identical"], found["records"], found["switched"]) == (True, 6, False)


def test_progress_goes_to_stderr_as_lines(cli):
    """Where stderr is no terminal, what is done and at what rate is told in lines."""
    assert "rebuilding: 6 of 6 records, " in cli("replay", "rebuild").err


def test_progress_for_machines_is_json(cli):
    """With --json every line of progress is an object, with rate and what is left."""
    (line,) = [json.loads(each) for each in cli("replay", "rebuild", "--json").err.splitlines()]
    assert (line["event"], line["done"], line["total"], line["seconds_left"]) == ("progress", 6, 6, 0)


def test_a_wrong_store_is_told_by_run_and_field(cli, spoilt):
    """Exit code 1; what differs is counted by field, and named."""
    answer = cli("replay", "rebuild")
    assert answer.code == 1
    assert (
        "2 runs differ: 1 changed, 0 in the live store alone, 1 in the rebuilt one alone; by field: status 1"
        in answer.out
    )
    assert "status 1 -> 6" in answer.out


def test_a_wrong_store_is_not_switched_without_accept(cli, spoilt):
    """What differs is told, and the way to switch all the same."""
    answer = cli("replay", "rebuild", "--switch", "--yes")
    assert answer.code == 1
    assert "differs from the live store in 2 runs; --accept" in answer.err
    assert standing(cli).keys() == {"live", "shadow"}


def test_a_wrong_store_is_switched_with_accept(cli, spoilt):
    """Then the store is what the log says."""
    assert cli("replay", "rebuild", "--switch", "--accept", "--yes").code == 0
    assert cli("replay", "verify").code == 0


def test_switching_is_asked_for(cli):
    """Where nobody can be asked, nothing is switched without --yes."""
    answer = cli("replay", "rebuild", "--switch")
    assert answer.code == 2
    assert "--yes" in answer.err
    assert standing(cli).keys() == {"live", "shadow"}


def test_a_switch_is_told(cli):
    """The store that is live now is named, and so it stands in --status."""
    answer = cli("replay", "rebuild", "--switch", "--yes", "--json")
    assert (answer.code, answer.lines[0]["switched"]) == (0, True)
    assert f"{answer.lines[0]['name']} is the live store now" in answer.err
    assert standing(cli)["live"]["name"] == answer.lines[0]["name"]


def test_every_verb_reads_what_was_switched_to(cli, append, fold):
    """Lists, usage and folding go on in the store that was switched to."""
    cli("replay", "rebuild", "--switch", "--yes")
    append(run_of("c"))
    fold()
    assert {run["id"] for run in cli("runs", "list", "--json").lines} == {"a", "b", "c"}
    assert cli("replay", "verify").code == 0


def test_back_and_forth(cli):
    """--back makes the former store the live one again, and then that one is the former."""
    cli("replay", "rebuild", "--switch", "--yes")
    assert cli("replay", "rebuild", "--back", "--yes").code == 0
    assert standing(cli)["live"]["name"] == "runfold.db"
    assert cli("replay", "rebuild", "--back", "--yes").code == 0
    assert standing(cli)["former"]["name"] == "runfold.db"


def test_without_a_former_store_there_is_no_way_back(cli):
    """It is said, with exit code 2."""
    answer = cli("replay", "rebuild", "--back", "--yes")
    assert (answer.code, answer.out) == (2, "")
    assert "no former store" in answer.err


def test_dropping_leaves_the_live_store(cli):
    """All that is beside it goes."""
    cli("replay", "rebuild", "--switch", "--yes")
    cli("replay", "rebuild")
    assert cli("replay", "rebuild", "--drop", "all", "--yes").code == 0
    assert standing(cli).keys() == {"live"}
    assert cli("replay", "verify").code == 0


def test_the_live_store_is_not_dropped_by_name(cli):
    """Not even with --yes."""
    answer = cli("replay", "rebuild", "--drop", "runfold.db", "--yes")
    assert answer.code == 2
    assert "is the live store" in answer.err


def test_status_is_a_table_for_people(cli):
    """With what each store is, and how far it is behind."""
    cli("replay", "rebuild")
    out = cli("replay", "rebuild", "--status").out
    assert "live" in out
    assert "shadow" in out


@pytest.mark.parametrize("bound", [["--until", "0:1"], ["--from", "0:1"], ["--until", "2025-01-01"], ["--run", "a"]])
def test_a_part_is_not_switched(cli, bound):
    """What was cut is refused before any work."""
    answer = cli("replay", "rebuild", *bound, "--switch")
    assert answer.code == 2
    assert "never switched" in answer.err
    assert standing(cli).keys() == {"live"}


def test_a_part_is_built_and_not_compared(cli):
    """With bounds there is nothing to compare it with."""
    answer = cli("replay", "rebuild", "--until", "0:1,1:1,2:1,3:1", "--json")
    assert answer.code == 0
    assert (answer.lines[0]["identical"], answer.lines[0]["scope"]) == (None, "--until 0:1,1:1,2:1,3:1")


def test_one_run_is_compared_with_its_row(cli):
    """A run that is right is identical, whatever else is in the store."""
    answer = cli("replay", "rebuild", "--run", "a", "--json")
    assert answer.code == 0
    assert (answer.lines[0]["identical"], answer.lines[0]["records"]) == (True, 3)


def test_one_run_that_is_wrong_is_told_by_field(cli, data):
    """Exit code 1, and what the log says of it."""
    with closing(sqlite3.connect(data / "runfold.db")) as db, db:
        (body,) = db.execute("select body from run where run_id = 'a'").fetchone()
        state = decode_state(body)
        state.thread_id = "another"
        db.execute("update run set body = ? where run_id = 'a'", (encode_state(state),))
    answer = cli("replay", "rebuild", "--run", "a")
    assert answer.code == 1
    assert "thread_id 'another' -> 't'" in answer.out


@pytest.mark.parametrize("bound", ["yesterday", "0", "0:x", "1:2,"])
def test_a_bound_that_is_none_is_named(cli, bound):
    """Exit code 2, with what would be one."""
    answer = cli("replay", "rebuild", "--until", bound)
    assert answer.code == 2
    assert "--until" in answer.err
    assert "0:1200" in answer.err


def test_what_excludes_each_other_is_refused(cli):
    """One thing at a time."""
    assert cli("replay", "rebuild", "--switch", "--back").code == 2


def test_several_processes_give_the_same(cli, monkeypatch):
    """Folded by two processes, it is what one folds; what each has done is counted."""
    monkeypatch.setattr("runfold.replay.rebuild.BATCH_RECORDS", 1)
    answer = cli("replay", "rebuild", "--processes", "2", "--json")
    assert answer.code == 0
    assert (answer.lines[0]["identical"], answer.lines[0]["records"]) == (True, 6)


def test_where_there_is_no_store_nothing_is_made(cli, data):
    """Exit code 3, and the remedy."""
    (data / "runfold.db").unlink()
    answer = cli("replay", "rebuild")
    assert answer.code == 3
    assert "runfold serve" in answer.err
    assert not list(data.glob("runfold.db.rebuild-*"))


def test_a_log_that_begins_late_is_told(cli, data):
    """What the log no longer has is counted as unverifiable: exit code 1, and no switch."""
    with closing(sqlite3.connect(data / "runfold.log.db")) as db, db:
        for which in range(4):
            db.execute(f"delete from partition_{which} where offset = 0")
    answer = cli("replay", "rebuild")
    assert answer.code == 1
    assert "unverifiable: the log no longer has their first records" in answer.out
    answer = cli("replay", "rebuild", "--switch", "--accept", "--yes")
    assert answer.code == 2
    assert "unverifiable" in answer.err
    assert standing(cli).keys() == {"live", "shadow"}


def test_a_changed_fold_is_shown_before_it_is_switched_to(cli, monkeypatch):
    """Other settings: that they changed, how many runs differ in what; then --accept, and the old settings are refused."""
    monkeypatch.setenv("RUNFOLD_PROJECT_KEY", "team")
    monkeypatch.setenv("RUNFOLD_MOST_EVENTS", "9000")
    answer = cli("replay", "rebuild", "--switch", "--accept", "--yes")
    assert answer.code == 0
    assert "the fold has changed: settings" in answer.out
    monkeypatch.delenv("RUNFOLD_PROJECT_KEY")
    monkeypatch.delenv("RUNFOLD_MOST_EVENTS")
    answer = cli("serve", "--until-end")
    assert answer.code == 2
    assert "replay rebuild" in answer.err
    assert cli("replay", "rebuild", "--back", "--yes").code == 0
