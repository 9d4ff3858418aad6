from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from runfold import wiring
from runfold.cli.sending import Sender
from runfold.log.port import LogUnreachable
from runfold.log.sync_publisher import SyncPublisher
from runfold_schemas import RunCreated, RunModified, RunQueued, decode, encode, encode_json

AT = 1_760_000_000_000


@pytest.fixture
def in_log(settings):
    """The events in the log, by partition and offset; None where there is no log."""

    async def read():
        if not wiring.path_of("RUNFOLD_LOG", settings.log).exists():
            return None
        source = wiring.open_source(settings)
        await source.start()
        try:
            ranges = await source.ranges(range(await source.partitions()))
            return [
                decode(record.value)
                for which, held in sorted(ranges.items())
                async for records in source.read(which, begin=held.begin, end=held.end)
                for record in records
            ]
        finally:
            await source.close()

    return lambda: asyncio.run(read())


def queued(number: int, **told: object) -> RunQueued:
    return RunQueued(run_id="r", thread_id="t", id=str(number), occurred_at=AT + number, **told)


def test_a_file_is_published(tmp_path, cli, in_log):
    """The events of a file come into the log in order, and the number and the last line are told."""
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"\n".join(encode_json(queued(number)) for number in range(1, 4)))
    answer = cli("publish", str(file))
    assert answer.code == 0
    assert answer.err == f"{file}: 3 events published, the last is line 3\n"
    assert [event.id for event in in_log()] == ["1", "2", "3"]


def test_messagepack_is_published(tmp_path, cli, in_log):
    """MessagePack maps one behind the other are events as well."""
    file = tmp_path / "events.msgpack"
    file.write_bytes(encode(queued(1)) + encode(queued(2)))
    assert cli("publish", str(file)).code == 0
    assert [event.id for event in in_log()] == ["1", "2"]


def test_a_file_with_a_problem_sends_nothing(tmp_path, cli, in_log):
    """Each problem is named with file and line, and not even the events before it are sent."""
    file = tmp_path / "events.jsonl"
    file.write_bytes(encode_json(queued(1)) + b'\n{"type":"thread.run.queued","run_id":"r"}\nnope\n')
    answer = cli("publish", str(file))
    assert (answer.code, answer.out) == (2, "")
    assert [line.split(": ")[0] for line in answer.err.splitlines()] == [
        f"{file}, line 2",
        f"{file}, line 3",
        str(file),
    ]
    assert in_log() is None


def test_of_many_problems_ten_are_told(tmp_path, cli, in_log):
    """Of a file that is none of events the first ten problems are told, and the rest is counted."""
    file = tmp_path / "garbage"
    file.write_bytes(b"\x00nope\n" * 25)
    answer = cli("publish", str(file))
    lines = answer.err.splitlines()
    assert (answer.code, len(lines)) == (2, 12)
    assert lines[9:] == [
        f"{file}, line 10: no JSON object",
        f"{file}: and 15 more problems",
        f"{file}: nothing was sent",
    ]
    assert in_log() is None


@pytest.mark.parametrize("size", [2_000, 1_500_000])
def test_the_settings_say_how_large_an_event_may_be(tmp_path, cli, monkeypatch, in_log, size):
    """RUNFOLD_LARGEST_VALUE is the limit that a file is checked by."""
    monkeypatch.setenv("RUNFOLD_LARGEST_VALUE", str(size))
    file = tmp_path / "events.jsonl"
    file.write_bytes(encode_json(RunModified(run_id="r", thread_id="t", metadata={"a": "x" * (size - 500)})))
    assert cli("publish", str(file)).code == 0
    file.write_bytes(encode_json(RunModified(run_id="r", thread_id="t", metadata={"a": "x" * size})))
    assert f"at most {size:,} are allowed" in cli("publish", str(file)).err
    assert len(in_log()) == 1


def test_what_is_in_doubt_is_told(tmp_path, cli, monkeypatch):
    """Where the log fails with events in hand, people are told of how many it is not known whether the log has them."""

    def fail(*_: object) -> None:
        raise LogUnreachable("RUNFOLD_LOG: it is away")

    monkeypatch.setattr("runfold.log.sync_publisher.SyncPublisher.publish_many", fail)
    file = tmp_path / "events.jsonl"
    file.write_bytes(encode_json(queued(1)))
    answer = cli("publish", str(file))
    assert answer.code == 3
    assert f"{file}: 0 events published; whether 1 more are in the log is not known" in answer.err


def test_standard_input_is_published(command, in_log):
    """Standard input is the default."""
    answer = command("publish", stdin=encode_json(queued(1)))
    assert answer.err == "standard input: 1 event published, the last is line 1\n"
    assert len(in_log()) == 1


def test_standard_input_names_the_last_line_sent(started, settings, in_log):
    """Where a later chunk of standard input has a problem, what was sent before it stays, and its last line is named."""
    process = started("publish", "-")
    process.stdin.write(encode_json(queued(1)) + b"\n")
    process.stdin.flush()
    path = wiring.path_of("RUNFOLD_LOG", settings.log)
    with_first = threading.Event()
    while not (path.exists() and in_log()):
        with_first.wait(0.02)
    process.stdin.write(b"nope\n")
    process.stdin.close()
    assert process.wait(30) == 2
    err = process.stderr.read().decode()
    assert "standard input, line 2: no JSON object" in err
    assert "nothing from line 2 on was sent; 1 event published, the last is line 1" in err


def test_a_pipe_by_name_is_read_once(tmp_path, command, in_log):
    """What cannot be read twice, such as a named pipe, is published by chunks."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writing = threading.Thread(target=lambda: pipe.write_bytes(encode_json(queued(1))))
    writing.start()
    assert command("publish", str(pipe)).code == 0
    writing.join()
    assert len(in_log()) == 1


def test_what_is_left_out_is_filled_in(tmp_path, cli, in_log):
    """Id, time, source and number are filled in where a line has none; --source names who publishes."""
    file = tmp_path / "events.jsonl"
    file.write_bytes(
        encode_json(RunCreated(run_id="r", thread_id="t")) + b"\n" + encode_json(queued(2, source="s", sequence=9))
    )
    assert cli("publish", str(file), "--source", "shop").code == 0
    filled, own = in_log()
    assert (len(filled.id), filled.source.split(".")[0], filled.sequence) == (36, "shop", 1)
    assert (own.id, own.source, own.sequence) == ("2", "s", 9)


def test_json_tells_where_the_events_stand(tmp_path, cli):
    """With --json, stdout has how many were published, and per partition the position behind them."""
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"\n".join(encode_json(queued(number)) for number in range(1, 4)))
    (told,) = cli("publish", str(file), "--json").lines
    assert told["published"] == 3
    assert list(told["positions"].values()) == [3]


def test_the_rate_is_kept(settings):
    """At a hundred events a second, ten are sent five by five, and the second five after a twentieth of a second."""
    slept: list[float] = []
    with SyncPublisher(lambda: wiring.open_sink(settings)) as publisher:
        sender = Sender(publisher, rate=100, clock=lambda: 7.0, sleep=slept.append)
        for piece in sender.pieces([queued(number) for number in range(1, 11)]):
            sender.send(piece)
    assert (sender.sent, slept) == (10, pytest.approx([0.0, 0.05]))


def test_a_file_that_is_not_there_is_wrong_use(cli):
    """A file that cannot be read is named, with the reason."""
    answer = cli("publish", "/nowhere/events.jsonl")
    assert (answer.code, answer.err) == (
        2,
        "runfold: /nowhere/events.jsonl: cannot be read: No such file or directory\n",
    )


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no /proc")
def test_a_folder_that_cannot_be_made_is_told_as_that(tmp_path, cli, monkeypatch):
    """To somebody who publishes, a log that cannot be made is not a log that publishing would make."""
    monkeypatch.setenv("RUNFOLD_DATA", "/proc/x")
    file = tmp_path / "events.jsonl"
    file.write_bytes(encode_json(queued(1)))
    answer = cli("publish", str(file))
    assert answer.code == 3
    assert "/proc/x/runfold.log.db: its folder cannot be made: No such file or directory" in answer.err
    assert "publish something" not in answer.err


def test_a_log_that_cannot_be_written_is_unreachable(tmp_path, cli):
    """Where the log cannot be made the command ends with 3 and names the place."""
    (tmp_path / "occupied").write_text("")
    file = tmp_path / "events.jsonl"
    file.write_bytes(encode_json(queued(1)))
    answer = cli("publish", str(file), "--log", f"sqlite:///{tmp_path}/occupied/log.db")
    assert answer.code == 3
    assert "occupied" in answer.err
