from __future__ import annotations

import io

import pytest

from runfold.log.port import Message
from runfold_schemas import Codec, RunCompleted, RunCreated, RunExpired, RunQueued, Usage, encode_json
from runfold_schemas.lean import LEAN_EVENT_TYPES

AT = 1_760_000_000_000
USAGE = Usage(prompt_tokens=5, completion_tokens=2, total_tokens=7)
OLDER = Codec(tuple(kind for kind in LEAN_EVENT_TYPES if kind is not RunExpired)).decode


@pytest.fixture
def letters(append, fold, cli):
    """Three letters: broken bytes of a run, an event under another run's key, a tombstone without key. Their places."""
    append(
        [
            RunCreated(run_id="a", thread_id="t", id="1", occurred_at=AT),
            Message(b"a", b"\xc1garbage", [("who", b"me")]),
            Message(b"b", encode_json(RunQueued(run_id="a", thread_id="t", id="2", occurred_at=AT))),
            Message(b"\xff", b"{}"),
        ]
    )
    fold()
    return {line["reason"]: place(line) for line in cli("dead-letters", "list", "--json", "--run", "a").lines} | {
        line["reason"]: place(line) for line in cli("dead-letters", "list", "--json", "--run", "b").lines
    }


@pytest.fixture
def superseded(append, fold):
    """A run whose end an older version could not read."""
    append(
        [
            RunCreated(run_id="a", thread_id="t", id="1", occurred_at=AT, model="m"),
            RunExpired(run_id="a", thread_id="t", id="2", occurred_at=AT + 1000, usage=USAGE),
        ]
    )
    fold(OLDER)


def place(line):
    return f"{line['partition']}:{line['offset']}"


def test_letters_are_listed_with_their_reasons(letters, cli):
    """Each letter has its place, its reason, and why."""
    lines = cli("dead-letters", "list", "--json").lines
    assert sorted(line["reason"] for line in lines) == ["key_mismatch", "malformed", "malformed"]
    assert {line["run_id"] for line in lines} == {"a", "b", None}
    assert all(line["detail"] for line in lines)


@pytest.mark.parametrize(
    ("words", "count"),
    [(["--run", "a"], 1), (["--reason", "malformed"], 2), (["--limit", "1"], 1), (["--reason", "clock"], 0)],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_letters_are_filtered(letters, cli, words, count):
    """Each filter leaves exactly the letters it names."""
    assert len(cli("dead-letters", "list", "--json", *words).lines) == count


def test_a_list_goes_on_behind_a_place(letters, cli):
    """--after continues where a list ended; together they are the whole list."""
    whole = cli("dead-letters", "list", "--json").lines
    rest = cli("dead-letters", "list", "--json", "--after", place(whole[0])).lines
    assert rest == whole[1:]


def test_people_get_a_table(letters, cli):
    """Without --json the list is a table."""
    assert "key it by run_id" in cli("dead-letters", "list").out


def test_a_letter_is_shown_whole(letters, cli):
    """show has the letter's bytes, key and headers."""
    (told,) = cli("dead-letters", "show", letters["malformed"], "--json").lines
    assert (told["key"], told["value"], told["value_base64"]) == ("a", None, "wWdhcmJhZ2U=")
    assert told["headers"] == [["who", "bWU="]]


def test_people_see_what_can_be_read(letters, cli):
    """show decodes what can be decoded, and writes the rest as bytes."""
    assert "\\xc1garbage" in cli("dead-letters", "show", letters["malformed"]).out
    assert '"thread.run.queued"' in cli("dead-letters", "show", letters["key_mismatch"]).out


def test_a_letter_that_is_not_there_is_a_no(letters, cli):
    """There is no letter at that place: exit code 1."""
    assert cli("dead-letters", "show", "0:99999").code == 1


def test_discard_notes_a_reason(letters, cli):
    """A discarded letter leaves the list, and stays with its reason under --all."""
    assert cli("dead-letters", "discard", letters["malformed"], "--reason", "known bug", "--yes").code == 0
    assert letters["malformed"] not in map(place, cli("dead-letters", "list", "--json").lines)
    shown = {place(line): line["discarded"] for line in cli("dead-letters", "list", "--json", "--all").lines}
    assert shown[letters["malformed"]] == "known bug"


def test_discard_changes_no_digest(letters, cli):
    """A note is no part of what the log says."""
    before = cli("store", "digest", "--json").out
    cli("dead-letters", "discard", letters["malformed"], "--reason", "known bug", "--yes")
    assert cli("store", "digest", "--json").out == before


@pytest.mark.parametrize("words", [[], ["--reason", " "]], ids=["none", "blank"])
def test_discard_wants_a_reason(letters, cli, words):
    """Without a reason nothing is discarded."""
    assert cli("dead-letters", "discard", letters["malformed"], "--yes", *words).code == 2


def test_nobody_to_ask_wants_yes(letters, command):
    """Where standard input is no terminal, --yes is wanted, and nothing is done without."""
    answer = command("dead-letters", "discard", letters["malformed"], "--reason", "x")
    assert answer.code == 2
    assert "--yes" in answer.err
    assert command("dead-letters", "list", "--json").out.count("\n") == 3


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("typed", "code", "left"), [("y\n", 0, 2), ("\n", 1, 3), ("no\n", 1, 3)])
def test_people_are_asked(letters, cli, monkeypatch, typed, code, left):
    """On a terminal people are asked; anything but yes does nothing."""
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    answer = cli("dead-letters", "discard", letters["malformed"], "--reason", "x")
    assert (answer.code, answer.out) == (code, "")
    assert "[y/N]" in answer.err
    assert len(cli("dead-letters", "list", "--json").lines) == left


def test_retry_shows_what_it_would_do(superseded, cli):
    """Without --yes retry shows the run before and after, its letters and its usage, and changes nothing."""
    answer = cli("dead-letters", "retry", "a")
    assert answer.code == 2
    assert "status: queued -> expired" in answer.out
    assert "dead letters: 1 unknown_type -> none" in answer.out
    assert "total_tokens +7" in answer.out
    assert cli("runs", "get", "a", "--json").lines[0]["status"] == "queued"


@pytest.mark.parametrize("words", [["a"], ["--readable"]], ids=["run", "readable"])
def test_retry_folds_the_run_again(superseded, cli, words):
    """Retry gives the run, its letters and usage as a fold by today's code has them; verify agrees."""
    assert cli("dead-letters", "retry", *words, "--yes").code == 0
    assert cli("runs", "get", "a", "--json").lines[0]["status"] == "expired"
    assert cli("dead-letters", "list", "--json").out == ""
    assert cli("usage", "--json").lines[0]["total_tokens"] == 7
    verified = cli("replay", "verify", "--json")
    assert (verified.code, verified.lines[0]["superseded"]) == (0, [])


def test_retry_takes_a_place(superseded, cli):
    """A letter's place names its run."""
    (letter,) = cli("dead-letters", "list", "--json").lines
    assert letter["readable"] is True
    assert cli("dead-letters", "retry", place(letter), "--yes").code == 0
    assert cli("runs", "get", "a", "--json").lines[0]["status"] == "expired"


def test_retry_tells_machines_the_plan(superseded, cli):
    """With --json the plan is one object for each part of a run."""
    (told,) = cli("dead-letters", "retry", "a", "--json", "--yes").lines
    assert (told["before"]["status"], told["after"]["status"]) == ("queued", "expired")
    assert told["usage"][0]["model"] == "m"


def test_readable_letters_are_counted_in_status(superseded, cli):
    """Status counts the letters that today's code could read."""
    assert cli("status", "--json").lines[0]["readable"] == 1


def test_a_discarded_letter_is_not_retried(superseded, cli):
    """--readable leaves out what people have discarded."""
    (letter,) = cli("dead-letters", "list", "--json").lines
    cli("dead-letters", "discard", place(letter), "--reason", "x", "--yes")
    assert "nothing to do" in cli("dead-letters", "retry", "--readable", "--yes").err


def test_a_retry_that_changes_nothing_says_so(letters, cli):
    """A letter that is still broken leaves the run as it is, and nobody is asked."""
    answer = cli("dead-letters", "retry", letters["malformed"])
    assert answer.code == 0
    assert "nothing to do" in answer.err


def test_a_letter_of_no_run_cannot_be_retried(letters, cli):
    """A letter whose key names no run is refused, with what to do instead."""
    (stray,) = [line for line in cli("dead-letters", "list", "--json").lines if line["run_id"] is None]
    answer = cli("dead-letters", "retry", place(stray), "--yes")
    assert answer.code == 2
    assert "discard the letter" in answer.err


@pytest.mark.parametrize("words", [[], ["a", "--readable"]], ids=["nothing", "both"])
def test_retry_wants_one_way_of_naming(superseded, cli, words):
    """Retry takes names or --readable, and not both nor neither."""
    assert cli("dead-letters", "retry", *words).code == 2


def test_retry_works_beside_a_serving_process(superseded, started, cli, append):
    """A retry goes through the door of a store that is being served, and the service goes on from there."""
    serving = started("serve", "--no-api")
    append([RunCompleted(run_id="b", thread_id="t", id="1", occurred_at=AT)])
    for line in serving.stderr:
        if b"batch_committed" in line:
            break
    assert cli("dead-letters", "retry", "--readable", "--yes").code == 0
    append([RunCompleted(run_id="c", thread_id="t", id="1", occurred_at=AT)])
    watching = started("runs", "watch", "c", "--until-ended")
    assert watching.wait(30) == 0
    assert cli("runs", "get", "a", "--json").lines[0]["status"] == "expired"
