"""Replay over an archive that is damaged, of another log, or holds what nobody knows: each verb says what, and does no harm."""

from __future__ import annotations

import os
import shutil
from itertools import islice
from random import Random

import msgspec
import pytest

from runfold.demo.traffic import interleaved
from runfold.log.port import Message

EVENTS = list(islice(interleaved(20, Random(7)), 600))
RUN = EVENTS[0].run_id
DREAMT = Message(RUN.encode(), msgspec.json.encode({"type": "thread.run.dreamt", "id": "1", "run_id": RUN}))
TIME = "2100-01-01T00:00:00Z"
VERBS = {
    "rebuild": ("rebuild", "--switch", "--yes"),
    "verify": ("verify",),
    "history": ("history", RUN),
    "as-of run": ("as-of", "run", RUN, "--offset", "0:1", "--offset", "1:1", "--offset", "2:1", "--offset", "3:1"),
    "as-of usage": ("as-of", "usage", "--from-log", "--at", TIME),
    "archive": ("archive", "--archive", "archive:///{other}"),
    "restore": ("restore", "sqlite:///{other}.db"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch, append, fold, cli):
    """An archive of the log that the store was folded from, which is what is replayed."""
    path = tmp_path / "archive"
    append([*EVENTS, DREAMT])
    fold()
    assert cli("replay", "archive", "--archive", f"archive:///{path}").code == 0
    monkeypatch.setenv("RUNFOLD_LOG", f"archive:///{path}")
    monkeypatch.setenv("RUNFOLD_ARCHIVE", f"archive:///{path}")
    return path


@pytest.fixture
def replay(cli, tmp_path):
    """Runs a verb of VERBS; what it makes goes into ``other``."""
    return lambda verb: cli("replay", *(word.format(other=tmp_path / "other") for word in VERBS[verb]))


def truncated(segment):
    os.truncate(segment, 100)


def flipped(segment):
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)


def missing(segment):
    segment.unlink()


@pytest.mark.parametrize("damage", [truncated, flipped, missing])
@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_names_the_damage(folder, replay, cli, verb, damage):
    """File and offsets are told, with code 2 and no answer; the live store is the one of before."""
    segments = sorted(folder.glob("partition=*/*.parquet"))
    before = cli("store", "digest").out
    for segment in segments:
        damage(segment)
    answer = replay(verb)
    assert (answer.code, answer.out) == (2, "")
    assert any(f"{segment} " in answer.err and "offsets 0 to " in answer.err for segment in segments)
    assert cli("store", "digest").out == before


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in {"archive", "restore"}])
def test_each_verb_refuses_a_manifest_of_another_log(folder, replay, append, cli, tmp_path, monkeypatch, verb):
    """An archive of another log is not taken for the store's own: both are named, with code 2, and nothing is changed."""
    before = cli("store", "digest").out
    other = {"data": str(tmp_path / "elsewhere"), "log": f"sqlite:///{tmp_path}/another.db"}
    words = [word for name, value in other.items() for word in (f"--{name}", value)]
    assert cli("publish", *words, str(_file_of(tmp_path))).code == 0
    shutil.rmtree(folder)
    assert cli("replay", "archive", *words).code == 0
    answer = replay(verb)
    assert (answer.code, answer.out) == (2, "")
    assert "another.db" in answer.err
    assert "runfold.log.db" in answer.err
    assert cli("store", "digest").out == before


def _file_of(folder):
    path = folder / "events.jsonl"
    path.write_bytes(b"\n".join(msgspec.json.encode(event) for event in EVENTS[:50]))
    return path


def test_a_type_that_nobody_knows_is_a_dead_letter(folder, replay, cli):
    """An archive that holds an unknown type is rebuilt from, verified, and told, as the log is."""
    assert replay("verify").code == 0
    answer = replay("rebuild")
    assert (answer.code, "is the live store now" in answer.err) == (0, True)
    assert [each["reason"] for each in cli("dead-letters", "list", "--json").lines] == ["unknown_type"]
    assert "rejected: unknown_type" in replay("history").out
    assert replay("as-of usage").code == 0
    assert replay("as-of run").code == 0
    assert "completed" in cli("replay", "as-of", "run", RUN, "--at", TIME).out
