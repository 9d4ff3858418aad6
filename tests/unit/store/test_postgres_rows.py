"""How rows travel to PostgreSQL: text with any character, keys, and chunks of COPY that hold whole rows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runfold.fold.changes import RunChange
from runfold.fold.usage import Dimensions
from runfold.store import postgres_rows
from runfold.store.postgres_rows import RUN_COPY_COLUMNS, copied_runs, key_of, stored_text, told_text

texts = st.text(st.sampled_from("\x00\x01\x02ab\U0001f600"))


@given(texts)
def test_any_text_comes_back(text: str) -> None:
    """Text that PostgreSQL cannot hold is stored as text that it can, and told as it was."""
    assert "\x00" not in stored_text(text)
    assert told_text(stored_text(text)) == text


@given(texts, texts)
def test_texts_keep_their_order(one: str, other: str) -> None:
    """Stored texts are ordered as the texts themselves: lists by run id are those of other stores."""
    assert (stored_text(one) < stored_text(other)) == (one < other)


def test_keys_fit_a_bigint() -> None:
    """A key is positive and below 2**63; 0 would mean that a run has no row."""
    assert all(0 < key_of(f"run_{n}") < 1 << 63 for n in range(1000))


numbers = st.none() | st.integers(-(1 << 62), 1 << 62)


@given(st.lists(st.tuples(texts, texts, numbers, numbers, st.binary(max_size=9)), max_size=5))
def test_a_copy_holds_every_row(rows: list[tuple[str, str, int | None, int | None, bytes]]) -> None:
    """Whatever is null and however the chunks are cut, the format's own rules read back every column."""
    runs = [
        RunChange(3, run_id, 0, thread_id, 5, 1_700_000_000, 9, Dimensions(), minute, final, body)
        for run_id, thread_id, minute, final, body in rows
    ]
    whole, postgres_rows.CHUNK = postgres_rows.CHUNK, 4
    try:
        chunks = copied_runs([(key_of(run.run_id), run) for run in runs], dimension=lambda _: 7, fold=2)
    finally:
        postgres_rows.CHUNK = whole
    found = [dict(zip(RUN_COPY_COLUMNS, row, strict=True)) for row in _read(b"".join(chunks))]
    for run, row in zip(runs, found, strict=True):
        assert int.from_bytes(row["run_key"] or b"") == key_of(run.run_id)
        assert int.from_bytes(row["thread_key"] or b"") == key_of(run.thread_id)
        assert told_text((row["run_id"] or b"").decode()) == run.run_id
        assert told_text((row["thread_id"] or b"").decode()) == run.thread_id
        assert (row["body"], int.from_bytes(row["status"] or b"")) == (run.body, 5)
        for column, value in (("minute", run.minute), ("final_timestamp", run.final_timestamp)):
            told = row[column]
            assert (None if told is None else int.from_bytes(told, signed=True)) == value


def _read(copy: bytes) -> list[list[bytes | None]]:
    """Binary COPY by the letter of PostgreSQL's manual."""
    assert copy[:19] == b"PGCOPY\n\xff\r\n\0" + bytes(8)
    at, rows = 19, []
    while (width := int.from_bytes(copy[at : at + 2], signed=True)) != -1:
        at, row = at + 2, list[bytes | None]()
        for _ in range(width):
            length = int.from_bytes(copy[at : at + 4], signed=True)
            at += 4
            row.append(copy[at : at + length] if length >= 0 else None)
            at += max(length, 0)
        rows.append(row)
    assert copy[at:] == b"\xff\xff"
    return rows
