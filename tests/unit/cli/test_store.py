from __future__ import annotations

import sqlite3
from contextlib import closing

import msgspec
import pytest

from runfold.log.port import Message
from runfold_schemas import RunCompleted, RunCreated, Usage

AT = 1_760_000_000_000
USAGE = Usage(prompt_tokens=5, completion_tokens=2, total_tokens=7)


@pytest.fixture
def world(append, fold):
    """One ended run and one dead letter."""
    append(
        [
            RunCreated(run_id="a", thread_id="t", id="1", occurred_at=AT, model="m"),
            RunCompleted(run_id="a", thread_id="t", id="3", occurred_at=AT + 2000, usage=USAGE),
            Message(b"a", b"garbage"),
        ]
    )
    fold()


def spoil(data, statement):
    """Write into the store's file behind everybody's back."""
    with closing(sqlite3.connect(data / "runfold.db")) as db, db:
        db.execute(statement)


def test_migrate_makes_a_store_that_can_be_read(cli):
    """After migrate there is a store of this version, and reading verbs work."""
    (told,) = cli("store", "migrate", "--json").lines
    assert told["schema_version"] >= 1
    assert cli("runs", "list", "--json").code == 0


def test_a_sound_store_is_sound(world, cli):
    """Check reads everything, and counts it."""
    answer = cli("store", "check", "--json")
    (told,) = answer.lines
    assert (answer.code, told["sound"]) == (0, True)
    assert (told["runs"], told["letters"], told["buckets"]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("update run set body = x'c1'", "its body cannot be read"),
        ("update run set status = 5", "status is 5, and its body says 6"),
        ("update usage set total_tokens = 8", "and the runs booked there add up to"),
        ("delete from usage", "is not there, and the runs booked there add up to"),
        ("update position set next = 1", "is not below the position"),
    ],
    ids=["body", "column", "usage", "bucket", "position"],
)
def test_a_spoiled_store_is_not_sound(world, cli, data, statement, words):
    """What does not agree inside the store is named, and the exit code is 1."""
    spoil(data, statement)
    answer = cli("store", "check")
    assert answer.code == 1
    assert words in answer.out


def test_a_dump_is_json_lines_of_everything(world, cli):
    """The dump has positions, runs, letters and usage, a JSON object a line."""
    tables = [msgspec.json.decode(line)["table"] for line in cli("store", "dump").out.splitlines()]
    assert {"position", "run", "letter", "usage"} == set(tables)


def test_the_digest_is_told_for_each_partition_and_usage(world, cli, settings):
    """The digest has a number for each partition, and one for usage."""
    (told,) = cli("store", "digest", "--json").lines
    assert len(told["partitions"]) == settings.partitions
    assert told["usage"] in cli("store", "digest").out


def test_a_file_that_is_no_store_is_refused(tmp_path, cli):
    """Another application's file is named, and left alone."""
    other = tmp_path / "other.db"
    other.write_bytes(b"this is no database" * 100)
    answer = cli("store", "migrate", "--store", f"sqlite:///{other}")
    assert answer.code == 2
    assert "RUNFOLD_STORE" in answer.err
    assert other.read_bytes() == b"this is no database" * 100


def test_dump_takes_json_for_granted(world, cli):
    """store dump --json prints what store dump does: it is JSON Lines already."""
    assert cli("store", "dump", "--json") == cli("store", "dump")
