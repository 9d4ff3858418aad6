"""What the fold remembers of a run: the one thing a store keeps in a run's row, encoded by :func:`encode_state`.

The order of the fields is the order in which they are stored: append at the end, with a default, and never reorder.
Times are in Unix milliseconds. Nothing here names a store's own keys, so that the same log gives the same bytes anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, field, msgpack
from xxhash import xxh3_64_intdigest

from runfold.fold.outcome import Flag
from runfold.fold.timeline import NAMELESS
from runfold.fold.usage import Booking, Dimensions, book
from runfold_schemas.events import JsonObject, Usage

MOST_JUMP = 10_000
MOST_SEEN = 1_000
"""Sources and gaps of a run that records which are not folded may add to; folded ones are bounded by their number."""


class Source(Struct, array_like=True, gc=False):
    """Who published, as far as order needs it. A source that counts anew gets a second entry: its order starts afresh.

    ``name`` is a hash; ``last`` the highest number seen; ``missing`` the ranges below it not seen yet, both ends included.
    ``modified`` and ``corrected`` are the order (sequence or 0, time) of the newest of each that was applied.
    """

    name: int
    last: int = 0
    missing: tuple[tuple[int, int], ...] = ()
    counted_anew: bool = False
    modified: tuple[int, int] | None = None
    corrected: tuple[int, int] | None = None


class ShownState(Struct, array_like=True, gc=False):
    """What of a run people are shown: the first fields of :class:`RunState`, which can be read without the rest.

    ``created`` is what it told, as MessagePack (:func:`runfold_schemas.lean.created_of_bytes`). ``since`` is when the status
    was entered, ``queue_ms`` and ``run_ms`` what was spent before it, all exact while ``exact``. ``metadata`` is what a
    modified told, None before any did. ``required_action`` is MessagePack, with keys in order.
    """

    run_id: str
    thread_id: str
    first_at: int
    since: int
    created: bytes | None = None
    status: int = 0
    started_at: int | None = None
    queue_ms: int = 0
    run_ms: int = 0
    exact: bool = True
    ended_at: int | None = None
    required_action: bytes | None = None
    last_error: JsonObject | None = None
    incomplete_details: JsonObject | None = None
    usage: Usage | None = None
    usage_corrected: bool = False
    metadata: JsonObject | None = None

    @property
    def created_at(self) -> int:
        """Unix seconds: the time of ``created``, or the first known time while that has not come."""
        return self.first_at // 1000


class RunState(ShownState, array_like=True, gc=False):
    """One run. The fold owns the state it is given and changes it in place; what was encoded before is not affected.

    ``told_at_end`` says whether a modified had told metadata when the run ended. ``marks`` holds 12 bytes for each event: 8
    of a hash of its id, 4 of a hash of its content. For ``timeline`` see :mod:`runfold.fold.timeline`.
    ``excess_corrections`` are those that came to a full run.
    """

    told_at_end: bool = False
    dimensions: Dimensions = Dimensions()
    flags: int = 0
    marks: bytes = b""
    timeline: bytes = b""
    sources: list[Source] = field(default_factory=list)
    first_offset: int = -1
    last_offset: int = -1
    final_offset: int | None = None
    final_timestamp: int | None = None
    excess_corrections: int = 0

    @property
    def booked(self) -> Booking | None:
        """What the run adds to usage; None while it is open."""
        return None if self.ended_at is None else book(self)

    def missing(self) -> Iterator[tuple[int, int, int]]:
        """Ranges of numbers that have not come: (hash of the source's name, first, last)."""
        for source in self.sources:
            for first, last in source.missing:
                yield source.name, first, last


encode_state = msgpack.Encoder().encode
decode_state = msgpack.Decoder(RunState).decode
decode_shown = msgpack.Decoder(ShownState).decode
"""The part that people are shown, from the bytes of the whole: it costs less than half."""

_MOST_NAMES = 10_000
known_sources: dict[str | None, int] = {}
"""Hashes of the names that :func:`hash_of_source` was asked for lately."""


def hash_of_source(name: str) -> int:
    """64 bits of a hash of a source's name, remembered for the few names that are in use at a time."""
    hashed = known_sources.get(name)
    if hashed is None:
        if len(known_sources) >= _MOST_NAMES:
            known_sources.clear()
        hashed = known_sources[name] = xxh3_64_intdigest(name.encode())
    return hashed


def number_seen(state: RunState, name: str | None, sequence: int | None) -> None:
    """Mark a number that came with a record that is not folded itself (a duplicate, a conflict, a dead letter).

    Only folded events make a source count anew, or mark numbers of one that has. Where a run already has very many
    sources or gaps no more are added: duplicates are not bounded in number, and a run's row has to be.
    """
    if name is None or sequence is None:
        return
    hashed = hash_of_source(name)
    source = _newest(state.sources, hashed)
    if source is None:
        if sequence > MOST_JUMP or len(state.sources) >= MOST_SEEN:
            return
        source = Source(hashed)
        state.sources.append(source)
    opens = sequence > source.last + 1 and len(source.missing) >= MOST_SEEN
    if not (source.counted_anew or opens) and sequence - source.last <= MOST_JUMP:
        _take(state, source, sequence)


def number_folded(state: RunState, name: str | None, sequence: int | None) -> int:
    """Mark the number of an event that is folded now; returns the index of its source in ``state.sources``."""
    if name is None:
        return NAMELESS
    hashed = hash_of_source(name)
    sources = state.sources
    index = len(sources) - 1
    while index >= 0 and sources[index].name != hashed:
        index -= 1
    if index < 0:
        index = len(sources)
        sources.append(Source(hashed))
    if sequence is None:
        return index
    source = sources[index]
    if sequence == source.last + 1:
        source.last = sequence
    elif sequence - source.last > MOST_JUMP or not _take(state, source, sequence):
        source.missing = ()
        sources.append(Source(hashed, sequence, counted_anew=True))
        state.flags |= int(Flag.RECOUNTED)
        _flag_missing(state)
        return len(sources) - 1
    return index


def _newest(sources: list[Source], hashed: int) -> Source | None:
    return next((source for source in reversed(sources) if source.name == hashed), None)


def _take(state: RunState, source: Source, sequence: int) -> bool:
    """Mark one number as seen, opening or closing gaps; False where it had been seen before."""
    if sequence > source.last:
        if sequence > source.last + 1:
            source.missing = (*source.missing, (source.last + 1, sequence - 1))
        source.last = sequence
    else:
        for place, (first, last) in enumerate(source.missing):
            if first <= sequence <= last:
                around = ((first, sequence - 1), (sequence + 1, last))
                kept = tuple(gap for gap in around if gap[0] <= gap[1])
                source.missing = source.missing[:place] + kept + source.missing[place + 1 :]
                break
        else:
            return False
    _flag_missing(state)
    return True


def _flag_missing(state: RunState) -> None:
    if any(source.missing for source in state.sources):
        state.flags |= int(Flag.MISSING)
    else:
        state.flags &= ~int(Flag.MISSING)
