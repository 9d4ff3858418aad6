from __future__ import annotations

from random import Random

import msgspec
import pytest

from runfold.log.event_files import decode_with_fillings, read_entries
from runfold.log.message_frames import BrokenFrameError, frame_end
from runfold_schemas import Event, RunCompleted, RunQueued, Usage, encode, encode_json
from runfold_schemas.testing import random_event, random_json

NOW = 1_790_000_000_000
DAY = 86_400_000


def test_what_json_alone_can_hold_is_not_filled_in():
    """An integer beyond 64 bits is what is wrong with a line, whatever else is left out of it; the reader goes on."""
    assert decode_with_fillings(b'{"type": "thread.run.queued", "x": 79121428436096357761024}', NOW) is None


def entries(*blocks: bytes):
    return [entry for found in read_entries(blocks, clock=lambda: NOW) for entry in found]


def in_blocks(data: bytes, size: int) -> list[bytes]:
    return [data[begin : begin + size] for begin in range(0, len(data), size)]


def timely_event(rng: Random) -> Event:
    return msgspec.structs.replace(random_event(rng), occurred_at=rng.randrange(NOW - 10**9, NOW))


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize(("encoded", "behind"), [(encode, b""), (encode_json, b"\n")], ids=["messagepack", "json"])
def test_events_are_read_however_the_bytes_come(encoded, behind, size):
    """Events come out as they went in, on either wire, wherever the blocks are cut."""
    rng = Random(size)
    events = [timely_event(rng) for _ in range(30)]
    data = b"".join(encoded(event) + behind for event in events)
    assert [entry.found for entry in entries(*in_blocks(data, size))] == events


def test_time_goes_on_while_a_pipe_is_read():
    """What was a time too far ahead at the first block is none at a later one."""
    later = encode_json(
        msgspec.structs.replace(RunQueued(run_id="r", thread_id="t", id="1"), occurred_at=NOW + 2 * DAY)
    )
    time = iter((NOW, NOW + DAY, NOW + DAY))  # a last look is for what stands behind the last newline
    told = [entry.found for found in read_entries([later + b"\n"] * 2, clock=time.__next__) for entry in found]
    assert [isinstance(found, str) for found in told] == [True, False]


def test_a_frame_ends_where_the_value_does():
    """The end of any MessagePack value is found, and none inside of a value that is cut."""
    rng = Random(7)
    for _ in range(500):
        value = msgspec.msgpack.encode(random_json(rng))
        assert frame_end(value + b"\x01", 0) == len(value)
        assert frame_end(value[: rng.randrange(len(value))], 0) is None


@pytest.mark.parametrize(
    "value",
    [b"x" * 300, b"x" * 70_000, "x" * 300, "x" * 70_000, [0] * 20, [0] * 70_000, 1.5, 2**63, -(2**63), None, True],
    ids=lambda value: f"{type(value).__name__}-{len(value) if hasattr(value, '__len__') else value}",
)
def test_a_frame_of_any_kind_has_its_end(value):
    """Each kind of MessagePack value, with each width of length, is measured right."""
    encoded = msgspec.msgpack.encode(value)
    assert frame_end(b"\xc0" + encoded + b"\xc0", 1) == 1 + len(encoded)


def test_an_extension_has_its_end():
    """Extension types, which events do not use, are measured all the same."""
    for size in (1, 2, 3, 4, 8, 16, 17, 300, 70_000):
        encoded = msgspec.msgpack.encode(msgspec.msgpack.Ext(5, b"x" * size))
        assert frame_end(encoded + b"\xc0", 0) == len(encoded)


def test_the_byte_that_is_never_used_is_no_frame():
    """0xc1 begins nothing in MessagePack."""
    with pytest.raises(BrokenFrameError):
        frame_end(b"\xc1", 0)


def test_the_place_of_json_is_its_line():
    """A problem is named with the line it stands on; blank lines count and say nothing."""
    found = entries(b'\n{"type":"thread.run.queued","run_id":"r","thread_id":"t"}\n\n \nnope\n{"type":"x"}')
    assert [(entry.place, entry.found) for entry in found[1:]] == [
        ("line 5", "no JSON object"),
        ("line 6", "this version knows no event of type 'x'"),
    ]


def test_the_place_of_messagepack_is_its_number_and_byte():
    """A problem in MessagePack is named with its number and its first byte."""
    event = encode(RunQueued(run_id="r", thread_id="t", id="1", occurred_at=NOW))
    found = entries(event + msgspec.msgpack.encode({"type": "x"}))
    assert (found[1].place, found[1].found) == (
        f"event 2 (byte {len(event)})",
        "this version knows no event of type 'x'",
    )


def test_a_file_that_is_cut_off_says_so():
    """The last value of a MessagePack file that lost its end is a problem, not silence."""
    event = encode(RunQueued(run_id="r", thread_id="t", id="1", occurred_at=NOW))
    found = entries(event, event[:-3])
    assert found[1].found == "it is cut off: the file ends inside of it"


def test_what_follows_a_broken_frame_cannot_be_read():
    """Behind a byte that no value begins with, reading stops and says so."""
    event = encode(RunQueued(run_id="r", thread_id="t", id="1", occurred_at=NOW))
    found = entries(event + b"\xc1" + event)
    assert len(found) == 2
    assert "what follows cannot be read" in found[1].found


@pytest.mark.parametrize("start", [b'{"', b"\x81\xa1x\xdb\xff\xff\xff\xff"], ids=["json", "messagepack"])
def test_a_value_without_end_is_given_up(start):
    """A line or value beyond all bounds is a problem, and does not fill the memory."""
    found = entries(start, *[b"x" * (1 << 20)] * 20)
    assert len(found) == 1
    assert "longer than" in found[0].found


def test_what_the_publisher_fills_in_may_be_left_out():
    """An event without id and time is right, and still has neither."""
    (found,) = entries(b'{"type":"thread.run.queued","run_id":"r","thread_id":"t"}')
    assert found.found == RunQueued(run_id="r", thread_id="t")


def test_filling_in_hides_no_other_mistake():
    """An event that lacks id and time is still checked in all else."""
    usage = b'{"prompt_tokens":-1,"completion_tokens":0,"total_tokens":0}'
    (found,) = entries(b'{"type":"thread.run.completed","run_id":"r","thread_id":"t","usage":' + usage + b"}")
    assert "prompt_tokens" in found.found


@pytest.mark.parametrize("at", [NOW // 1000, NOW + 90_000_000, 1])
def test_a_time_that_the_fold_would_reject_is_a_problem(at):
    """Seconds, and times more than a day ahead, are refused before they are sent."""
    (found,) = entries(encode_json(RunQueued(run_id="r", thread_id="t", id="1", occurred_at=at)))
    assert found.found.startswith("occurred_at: ")


def test_an_event_that_is_too_large_is_a_problem():
    """An event that would be over the size limit once it is completed is refused before it is sent."""
    event = RunCompleted(
        run_id="r",
        thread_id="t",
        usage=Usage(prompt_tokens=1, completion_tokens=1, total_tokens=2),
        last_error={"message": "x" * 999_800},
    )
    (found,) = entries(encode_json(event))
    assert "bytes" in found.found


def test_a_byte_order_mark_is_no_part_of_the_first_line():
    """Files that begin with a byte order mark are read as any other."""
    (found,) = entries(b'\xef\xbb\xbf{"type":"thread.run.queued","run_id":"r","thread_id":"t"}')
    assert isinstance(found.found, RunQueued)


def test_nothing_is_no_event():
    """An empty file has no events and no problems."""
    assert entries() == []
