"""JSON objects out of text in whatever form it was saved."""

from __future__ import annotations

import io
import json

import pytest

from runfold.capture.objects import Broken, Found, objects

RUNS = [{"id": f"run_{n}", "status": "queued", "tools": [{"a": {"b": '} "{'}}]} for n in range(3)]
COMPACT = [json.dumps(run).encode() for run in RUNS]


def read(text: bytes) -> list[Found | Broken]:
    return list(objects(io.BytesIO(text)))


@pytest.mark.parametrize(
    "text",
    [
        b"\n".join(COMPACT),
        b"\r\n".join(COMPACT) + b"\r\n",
        b"\xef\xbb\xbf" + b"\n\n".join(COMPACT),
        b" ".join(COMPACT),
        json.dumps(RUNS).encode(),
        json.dumps(RUNS, indent=2).encode(),
        json.dumps(RUNS, indent=0).encode(),
        b"[\n" + b",\n".join(COMPACT) + b"\n]\n",
        b"\n".join(json.dumps(run, indent=1).encode() for run in RUNS),
    ],
    ids=[
        "lines",
        "dos lines",
        "byte order mark",
        "one line",
        "array",
        "pretty array",
        "flat array",
        "array of lines",
        "pretty one by one",
    ],
)
def test_objects_are_found(text: bytes) -> None:
    """The same objects are read from every form."""
    assert [found.fields for found in read(text)] == RUNS


def test_lines_are_those_the_objects_begin_on() -> None:
    """An object is found by the line its brace opens on."""
    text = b"\n".join(json.dumps(run, indent=1).encode() for run in RUNS[:2])
    length = len(json.dumps(RUNS[0], indent=1).splitlines())
    assert [found.line for found in read(text)] == [1, length + 1]


@pytest.mark.parametrize(
    "broken",
    [COMPACT[0][:-9], COMPACT[0][:20], b'{"id": ', b'{"id": }', b"nonsense", b'"text"', b'{"a": "\xff"}', b"{" * 2000],
    ids=[
        "cut in a text",
        "cut in a name",
        "cut before a value",
        "no value",
        "no object",
        "a text",
        "no UTF-8",
        "bottomless",
    ],
)
def test_broken_line_costs_one_object(broken: bytes) -> None:
    """What is broken is told with its line, and the objects around it are found."""
    found = read(COMPACT[1] + b"\n" + broken + b"\n" + COMPACT[2] + b"\n")
    assert [item.fields for item in found if isinstance(item, Found)] == RUNS[1:]
    assert [item.line for item in found if isinstance(item, Broken)] == [2]


def test_broken_object_in_a_pretty_file_costs_one_object() -> None:
    """An object that is spread over lines, and broken, does not take the next one with it."""
    pretty = [json.dumps(run, indent=1).encode() for run in RUNS]
    found = read(pretty[0] + b"\n" + pretty[1].replace(b"queued", b"que\nued") + b"\n" + pretty[2])
    assert [item.fields for item in found if isinstance(item, Found)][-1] == RUNS[2]
    assert any(isinstance(item, Broken) for item in found)


def test_text_that_ends_early_is_told() -> None:
    """An object whose end never comes is told with the line it begins on."""
    assert [type(item) for item in read(b'{"a": {\n "b": 1\n}\n')] == [Broken]


def test_no_text_is_no_object() -> None:
    """An empty file has nothing in it, and nothing wrong with it."""
    assert read(b"") == read(b"\n \n") == []
