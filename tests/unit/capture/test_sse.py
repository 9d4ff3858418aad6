"""Recorded streams as they are really kept."""

from __future__ import annotations

import io

import pytest

from runfold.capture.sse import Garbled, Message, messages


def read(text: bytes) -> list[Message | Garbled]:
    return list(messages(io.BytesIO(text)))


TWO = [Message(2, "a", b'{"x":1}'), Message(5, "b", b'{"y":2}')]


@pytest.mark.parametrize(
    "text",
    [
        b'event: a\ndata: {"x":1}\n\nevent: b\ndata: {"y":2}\n\n',
        b'event:a\ndata:{"x":1}\n\nevent:b\ndata:{"y":2}\n\n',
        b'event: a\r\ndata: {"x":1}\r\n\r\nevent: b\r\ndata: {"y":2}\r\n\r\n',
        b'event: a\rdata: {"x":1}\r\revent: b\rdata: {"y":2}\r\r',
        b'\xef\xbb\xbfevent: a\ndata: {"x":1}\n\nevent: b\ndata: {"y":2}',
        b'event: a\ndata: {"x":1}\n: a comment\nevent: b\ndata: {"y":2}\n',
        b'event: a\ndata: {"x":1}\nid: 7\nevent: b\ndata: {"y":2}\nretry: 5\n',
    ],
    ids=[
        "plain",
        "no spaces",
        "carriage returns too",
        "carriage returns only",
        "byte order mark",
        "a comment",
        "no blank lines",
    ],
)
def test_messages_are_found(text: bytes) -> None:
    """The same two messages are read from every way of keeping them."""
    assert read(text) == TWO


def test_data_over_several_lines_is_one() -> None:
    """Lines of data that follow one another are one value with line feeds in it."""
    assert read(b'event: a\ndata: {\ndata:  "x": [\ndata: {}]}\n\n') == [Message(2, "a", b'{\n "x": [\n{}]}')]


def test_values_that_follow_one_another_are_several() -> None:
    """Where all but the data lines has got lost, each whole value is a message; later ones have no name."""
    assert read(b'event: a\ndata: {"x":1}\ndata: {"y":2}\ndata: [DONE]\n') == [
        Message(2, "a", b'{"x":1}'),
        Message(3, None, b'{"y":2}'),
        Message(4, None, b"[DONE]"),
    ]


def test_end_mark_ends_a_message() -> None:
    """What follows `[DONE]` is another stream."""
    assert read(b'data: [DONE]\ndata: {"x":1}\n') == [Message(1, None, b"[DONE]"), Message(2, None, b'{"x":1}')]


def test_name_does_not_outlive_its_message() -> None:
    """A message without a name has none, whatever the one before it was called."""
    assert read(b"event: a\n\ndata: 1\n\n") == [Message(3, None, b"1")]


def test_end_may_be_cut_off() -> None:
    """A message whose blank line never came is a message."""
    assert read(b"event: a\ndata: {") == [Message(2, "a", b"{")]


@pytest.mark.parametrize("line", [b"...", b'{"x":1}', b"datum: 1", b"data", b"\xff\xfe\x00"])
def test_line_that_is_no_field_is_told(line: bytes) -> None:
    """A line that is no part of a message is told with its number, and the rest goes on."""
    assert read(b"event: a\n" + line + b"\ndata: 1\n\n") == [Garbled(2, line), Message(3, "a", b"1")]
