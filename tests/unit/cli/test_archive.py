"""``runfold replay archive`` and ``restore``: what people and machines are told, and how it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
from contextlib import closing
from itertools import islice
from random import Random

import duckdb
import pytest

from runfold.demo.traffic import interleaved
from runfold.log.port import Message
from runfold_schemas import RunCompleted, Usage, encode_json


@pytest.fixture
def folder(tmp_path, monkeypatch):
    path = tmp_path / "archive"
    monkeypatch.setenv("RUNFOLD_ARCHIVE", f"archive:///{path}")
    return path


@pytest.fixture
def events():
    return list(islice(interleaved(50, Random(7)), 2_000))


@pytest.fixture
def archived(append, events, folder, cli):
    """A log of two thousand events and its archive."""
    append(events)
    assert cli("replay", "archive").code == 0


def segments(folder):
    return sorted(folder.glob("partition=*/*.parquet"))


def test_archive_tells_people_what_there_is(append, events, folder, cli):
    """A line for each partition, with what it takes of the log's bytes, and one for all."""
    append(events)
    answer = cli("replay", "archive")
    assert answer.code == 0
    assert "of the log's" in answer.out.splitlines()[0]
    assert answer.out.splitlines()[-1] == "4 segments written; the archive has 2,000 records in 4 segments"
    assert cli("replay", "archive").out.splitlines()[-1].startswith("0 segments written; the archive has 2,000 records")


def test_archive_tells_machines_each_segment(append, events, folder, cli):
    """With --json a line for each segment that was written, with its file, range and checksum."""
    append(events)
    told = cli("replay", "archive", "--segment-records", "300", "--json").lines
    assert sum(each["records"] for each in told) == 2_000
    assert all(each["records"] <= 300 for each in told)
    assert sorted(str(folder / each["file"]) for each in told) == [str(file) for file in segments(folder)]
    assert cli("replay", "archive", "--json").out == ""


def test_where_to_is_asked_for(cli, append, events):
    """Without a place for the archive the setting and the option are named."""
    append(events)
    answer = cli("replay", "archive")
    assert answer.code == 2
    assert "RUNFOLD_ARCHIVE" in answer.err
    assert "--archive archive:///" in answer.err


def test_an_archive_is_no_place_to_publish(archived, folder, cli, tmp_path):
    """With an archive for a log, publishing is refused, and says what to do."""
    (tmp_path / "event.json").write_bytes(encode_json(RunCompleted(run_id="r", thread_id="t")))
    answer = cli("publish", str(tmp_path / "event.json"), "--log", f"archive:///{folder}")
    assert answer.code == 2
    assert "nothing can be published into the archive" in answer.err


def test_check_of_a_whole_archive(archived, cli):
    """Check reads every file, and with --compare every record of the log: exit code 0."""
    answer = cli("replay", "archive", "--check", "--compare")
    assert answer.code == 0
    assert answer.out.splitlines()[-1] == "whole: 2,000 records in 4 segments; 2,000 records compared with the log"
    (told,) = cli("replay", "archive", "--check", "--json").lines
    assert (told["whole"], told["records"], told["problems"]) == (True, 2_000, [])


def test_check_names_each_damaged_file(archived, folder, cli):
    """Check goes on after the first damage: exit code 1, and all files and offsets are named."""
    first, second, third, _ = segments(folder)
    first.unlink()
    os.truncate(second, 100)
    with third.open("r+b") as file:
        file.seek(1000)
        file.write(b"\x00" * 8)
    shutil.copy(segments(folder)[-1], folder / "partition=0" / "stray.parquet")
    answer = cli("replay", "archive", "--check")
    assert answer.code == 1
    for file, told in ((first, "is missing"), (second, "has 100 bytes"), (third, "is not what was written")):
        assert any(str(file) in line and told in line for line in answer.out.splitlines())
    assert "stray.parquet is not named" in answer.out
    assert answer.out.splitlines()[-1].startswith("4 problems")


def test_compare_names_what_differs(archived, data, cli):
    """A record that the log tells otherwise is named by partition and offset: exit code 1."""
    with closing(sqlite3.connect(data / "runfold.log.db")) as log, log:
        log.execute("update partition_2 set timestamp = timestamp + 1 where offset = 17")
        log.execute("delete from partition_3 where offset = 20")
    answer = cli("replay", "archive", "--check", "--compare", "--json")
    assert answer.code == 1
    first, second = answer.lines[0]["problems"]
    assert first.startswith("partition 2, offset 17: the archive has a record at offset 17, the log another")
    assert second.startswith("partition 3, offset 21: the archive has a record at offset 20, the log another")


def test_compare_is_for_check(archived, cli):
    """--compare alone is wrong use."""
    assert cli("replay", "archive", "--compare").code == 2


def test_a_damaged_archive_ends_a_verb(archived, folder, fold, cli):
    """Verify over an archive with a damaged file ends with code 2, file and offsets named, and no answer."""
    fold()
    with segments(folder)[0].open("r+b") as file:
        file.seek(500)
        file.write(b"\x00" * 8)
    answer = cli("replay", "verify", "--log", f"archive:///{folder}")
    assert (answer.code, answer.out) == (2, "")
    assert f"{segments(folder)[0]} is not what was written" in answer.err
    assert "of partition 0" in answer.err


def test_verify_and_history_read_an_archive(archived, fold, folder, events, cli):
    """With RUNFOLD_LOG at the archive, both answer as they do over the log."""
    fold()
    run_id = events[0].run_id
    words = ("verify", "--json"), ("history", run_id, "--json")
    archive = ("--log", f"archive:///{folder}", "--archive", "")
    expected = [cli("replay", *each) for each in words]
    found = [cli("replay", *each, *archive) for each in words]
    assert [(each.code, each.out) for each in found] == [(each.code, each.out) for each in expected]


def test_a_store_is_served_from_an_archive(archived, folder, cli, fold, data):
    """Serve folds an archive into a store, which then goes on with the log itself: it is the same log."""
    assert cli("serve", "--until-end", "--log", f"archive:///{folder}").code == 0
    assert cli("replay", "verify").code == 0


def test_restore_tells_where_records_stand(archived, tmp_path, cli):
    """A table of old and new offsets, and what has to be done next."""
    new = f"sqlite:///{tmp_path}/new.db"
    answer = cli("replay", "restore", new)
    assert answer.code == 0
    assert "offsets are as they were" in answer.out
    assert answer.out.splitlines()[-1].startswith(f"2,000 records restored; {new} is a log of its own")
    assert cli("replay", "restore", new).code == 2
    assert cli("replay", "restore", new, "--resume", "--json").lines[0]["partitions"][0]["found"] > 0


LONG = {
    "verifying": ("verify",),
    "archiving": ("archive", "--archive", "archive:///{there}/second"),
    "checking": ("archive", "--check"),
    "restoring": ("restore", "sqlite:///{there}/new.db"),
    "folding the log": ("as-of", "usage", "--at", "now", "--from-log"),
}


@pytest.mark.parametrize("what", LONG)
def test_long_verbs_tell_machines_their_progress(what, archived, fold, tmp_path, cli):
    """With --json, progress is on stderr as objects, with what is done, of how much, at which rate, and what is left."""
    fold()
    words = (word.format(there=tmp_path) for word in LONG[what])
    told = [json.loads(line) for line in cli("replay", *words, "--json").err.splitlines() if line.startswith("{")]
    assert {line["what"] for line in told} == {what}
    assert told[-1]["done"] == told[-1]["total"] > 0
    assert told[-1].keys() >= {"rate", "seconds_left"}


def test_an_archive_is_not_restored_into_an_archive(archived, tmp_path, cli):
    """That is what copying, or archiving the archive, is for."""
    answer = cli("replay", "restore", f"archive:///{tmp_path}/other")
    assert answer.code == 2
    assert "naming the old one in RUNFOLD_LOG" in answer.err


def test_an_archive_can_be_archived(append, events, folder, tmp_path, cli):
    """Small segments become large ones by archiving the archive into another folder, under the same identity."""
    append(events)
    cli("replay", "archive", "--segment-records", "50")
    other = f"archive:///{tmp_path}/other"
    assert cli("replay", "archive", "--log", f"archive:///{folder}", "--archive", other).code == 0
    assert len(segments(tmp_path / "other")) == 4
    assert cli("replay", "archive", "--check", "--compare", "--archive", other).code == 0


def test_follow_archives_until_it_is_stopped(append, events, folder, started, cli):
    """--follow tells each segment as it comes; Ctrl-C ends it with 130, and what was told is there, whole."""
    append(events[:1_000])
    process = started("replay", "archive", "--follow", "--segment-age", "1", "--json")
    for _ in range(4):
        process.stdout.readline()
    append(events[1_000:])
    for _ in range(4):
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert (process.returncode, told) == (130, b"runfold: interrupted\n")
    assert cli("replay", "archive", "--check", "--compare").out.splitlines()[-1].startswith("whole: 2,000 records in 8")


# The columns


def test_tokens_by_model_in_sql_are_the_usage(archived, fold, folder, cli):
    """DuckDB sums up from the columns alone what `runfold usage` says."""
    fold()
    sums = duckdb.sql(
        f"""
        select created.model, count(*) as runs, sum(ended.prompt_tokens), sum(ended.cached_tokens),
               sum(ended.completion_tokens), sum(ended.total_tokens)
        from read_parquet('{folder}/**/*.parquet') as ended
        join read_parquet('{folder}/**/*.parquet') as created using (run_id)
        where created.type = 'thread.run.created' and ended.total_tokens is not null
        group by 1 order by 1
        """
    ).fetchall()
    told = cli("usage", "--by", "model", "--from", "2025-01-01", "--until", "2026-01-01", "--json").lines
    names = ("model", "runs", "prompt_tokens", "cached_tokens", "completion_tokens", "total_tokens")
    by_model: dict[str, list[int]] = {}
    for row in told:
        totals = by_model.setdefault(row["model"], [0] * 5)
        by_model[row["model"]] = [total + row[name] for total, name in zip(totals, names[1:], strict=True)]
    assert [(model, *rest) for model, *rest in sums] == [(model, *by_model[model]) for model in sorted(by_model)]
    assert len(sums) == 5


def test_columns_say_what_the_bytes_say(append, folder, cli):
    """Each field is a column with its type; what cannot be read is null, also of JSON, and of types of tomorrow."""
    usage = Usage(prompt_tokens=5, completion_tokens=2, total_tokens=7)
    told = RunCompleted(run_id="a", thread_id="t", id="e", occurred_at=1_760_000_000_000, source="s", usage=usage)
    future = b'{"type":"thread.run.of_the_future","run_id":"a","sequence":3,"source":7,"metadata":{"k":"v"}}'
    append(
        [told, Message(b"a", encode_json(told)), Message(b"a", future), Message(b"a", b"garbage"), Message(b"a", b"")]
    )
    cli("replay", "archive")
    rows = duckdb.sql(
        f"""
        select type, id, run_id, source, sequence, epoch_ms(occurred_at), total_tokens, metadata ->> 'k', partition,
               octet_length(value), key::varchar, timestamp > '2020-01-01'
        from read_parquet('{folder}/**/*.parquet') order by "offset"
        """
    ).fetchall()
    which = rows[0][8]
    first = ("thread.run.completed", "e", "a", "s", None, 1_760_000_000_000, 7, None, which)
    assert [row[:9] for row in rows] == [
        first,
        first,
        ("thread.run.of_the_future", None, "a", None, 3, None, None, "v", which),
        (*[None] * 8, which),
        (*[None] * 8, which),
    ]
    assert [row[9:] for row in rows[2:]] == [(len(future), "a", True), (7, "a", True), (0, "a", True)]
