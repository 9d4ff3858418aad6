"""How rows travel to PostgreSQL: text that may hold any character, keys of ids, and finished buffers of binary COPY. Pure.

A buffer is finished before the transaction begins: a COPY under way waits for its client for ever, and no timeout of the
server ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from struct import Struct
from typing import Final

from xxhash import xxh3_64_intdigest

from runfold.fold.changes import RunChange
from runfold.fold.usage import Dimensions

RUN_COPY_COLUMNS: Final = (
    *("run_key", "thread_key", "created_at", "partition", "flags", "status", "dimension", "fold"),
    *("minute", "final_timestamp", "run_id", "thread_id", "body"),
)
CHUNK: Final = 1 << 18
_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END: Final = b"\xff\xff"
# The number of columns, then each with its length in front; the last is the length of run_id, which follows.
_WITH_TIMES: Final = Struct(">h iq iq iq ii ii ih ii ii iq iq i").pack
_TIMELESS: Final = Struct(">h iq iq iq ii ii ih ii ii").pack
_LENGTHS: Final = [number.to_bytes(4, "big") for number in range(4096)]
_NULL: Final = b"\xff" * 4


def key_of(text: str) -> int:
    """Where to look for an id: 63 bits of a hash, never 0. Two ids may share one: the row says which it is."""
    return _key(stored_text(text).encode())


def _key(encoded: bytes) -> int:
    return xxh3_64_intdigest(encoded) & 0x7FFF_FFFF_FFFF_FFFF or 1


def stored_text(text: str) -> str:
    """Text as PostgreSQL can hold it: it has no NUL. The order of texts is kept, and every text comes back."""
    if "\x00" in text or "\x01" in text:
        return text.replace("\x01", "\x01\x02").replace("\x00", "\x01\x01")
    return text


def told_text(text: str) -> str:
    """What :func:`stored_text` was given."""
    if "\x01" in text:
        return text.replace("\x01\x01", "\x00").replace("\x01\x02", "\x01")
    return text


def copied_runs(
    runs: Iterable[tuple[int, RunChange]], *, dimension: Callable[[Dimensions], int], fold: int
) -> list[bytes]:
    """Rows, each with its key in front, as chunks of one binary COPY of RUN_COPY_COLUMNS, in the given order."""
    chunks, parts, size = list[bytes](), [_SIGNATURE], 0
    for key, run in runs:
        run_id, thread_id, body = stored_text(run.run_id).encode(), stored_text(run.thread_id).encode(), run.body
        minute, final, of = run.minute, run.final_timestamp, dimension(run.dimensions)
        if minute is not None and final is not None:
            parts.append(
                _WITH_TIMES(
                    *(13, 8, key, 8, _key(thread_id), 8, run.created_at, 4, run.partition, 4, run.flags, 2, run.status),
                    *(4, of, 4, fold, 8, minute, 8, final, len(run_id)),
                )
            )
        else:
            parts.append(
                _TIMELESS(
                    *(13, 8, key, 8, _key(thread_id), 8, run.created_at, 4, run.partition, 4, run.flags, 2, run.status),
                    *(4, of, 4, fold),
                )
                + _nullable(minute)
                + _nullable(final)
                + _length(run_id)
            )
        parts += (run_id, _length(thread_id), thread_id, _length(body), body)
        size += len(body)
        if size > CHUNK:
            chunks.append(b"".join(parts))
            parts, size = [], 0
    chunks.append(b"".join((*parts, _END)))
    return chunks


def _nullable(number: int | None) -> bytes:
    return _NULL if number is None else _LENGTHS[8] + number.to_bytes(8, "big", signed=True)


def _length(encoded: bytes) -> bytes:
    length = len(encoded)
    return _LENGTHS[length] if length < 4096 else length.to_bytes(4, "big")
