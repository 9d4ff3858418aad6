"""What every log can do: the only things the service and the replay tool may ask of one.

A log is a number of partitions, each an unbroken order of records by offset. Times are Unix milliseconds. *Begin* is the
first offset that can still be read, *end* the offset the next record will get. All errors that a person can act on are
:class:`LogError`; its subclasses are told apart by what has to be done.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from runfold.fold.record import Headers, Record


class LogError(Exception):
    """Something about the log that a person has to act on; the message names the setting and the remedy."""


class LogUnreachable(LogError):
    """The log does not answer (exit code 3)."""


class LogMissing(LogError):
    """There is no such log or topic (exit code 3)."""


class LogExists(LogError):
    """There is such a log already, and it is as it was."""


class RangeLost(LogError):
    """Offsets that were asked for are below the log's begin: retention has taken them."""

    def __init__(self, *, partition: int, wanted: int, begin: int) -> None:
        super().__init__(
            f"partition {partition}: offsets {wanted} to {begin - 1} are gone from the log, which now begins at {begin}; "
            "keep records longer than the service may be away (retention). `runfold serve --accept-loss` goes on behind "
            "them and records that; or build a new store from what is left: name a new one in RUNFOLD_STORE"
        )
        self.partition, self.wanted, self.begin = partition, wanted, begin


class LogCutShort(LogError):
    """The log ends before an offset that was read from it: it has lost records, or is another log."""

    def __init__(self, *, partition: int, wanted: int, end: int) -> None:
        super().__init__(
            f"partition {partition}: offset {wanted} was read up to, but the log now ends at {end}: it has lost records, or "
            "was made anew. Restore it, name the store's own log in RUNFOLD_LOG, or point RUNFOLD_STORE at a new store"
        )
        self.partition, self.wanted, self.end = partition, wanted, end


class LogIdentity(NamedTuple):
    """Which log this is: a log made anew under the same name has another ``cluster_id``."""

    cluster_id: str
    topic: str


class Range(NamedTuple):
    """What a partition holds: offsets ``begin`` up to but not including ``end``."""

    begin: int
    end: int


class HeldBack(NamedTuple):
    """What an open transaction keeps from being read: how many offsets beyond the end, and the first one's timestamp."""

    offsets: int
    since: int


class Place(NamedTuple):
    """Where a record was written."""

    partition: int
    offset: int


class Message(NamedTuple):
    """A record that is to be written."""

    key: bytes
    value: bytes
    headers: Headers = ()


class LogSource(Protocol):
    """Reading. One consumer's view: it reads what it was assigned, from where it was told."""

    async def start(self) -> None:
        """Open the log. Raises LogMissing or LogUnreachable."""

    async def close(self) -> None: ...

    async def identity(self) -> LogIdentity: ...

    async def partitions(self) -> int:
        """How many partitions there are; they are numbered from 0."""

    async def ranges(self, partitions: Sequence[int]) -> dict[int, Range]:
        """Begin and end of each partition, as of now."""

    async def held_back(self, partitions: Sequence[int]) -> dict[int, HeldBack]:
        """The partitions that are blocked by an open transaction now; one that ends in time is none to worry about."""

    async def offsets_for_time(self, partitions: Sequence[int], time: int) -> dict[int, int]:
        """Per partition the first offset whose record timestamp is at or after ``time``, else the end."""

    async def record_at(self, partition: int, offset: int) -> Record | None:
        """One record, or None where the log no longer or not yet has it."""

    def assign(self, positions: Mapping[int, int]) -> None:
        """Read exactly these partitions from now on, each from the given position."""

    async def fetch(self, *, most_records: int, most_bytes: int, wait: float) -> dict[int, list[Record]]:
        """The next records of the assigned partitions, in order per partition, moving the positions.

        Waits up to ``wait`` seconds for the first record without polling; empty when none came. ``most_bytes`` bounds
        the values' bytes, save that one record is always given. Raises RangeLost where a position is below the begin.
        """

    def position(self, partition: int) -> int:
        """The next offset to read of an assigned partition."""

    def tell_progress(self, positions: Mapping[int, int]) -> None:
        """What the store has committed, for tools that show how far a log is read. A hint: it is never read back."""

    def read(
        self, partition: int, *, begin: int, end: int, key: bytes | None = None
    ) -> AsyncIterator[Sequence[Record]]:
        """Records of one partition with begin <= offset < end, some at a time, whatever is assigned; of one key, if given.

        Raises RangeLost where ``begin`` is below the log's begin.
        """


class LogSink(Protocol):
    """Writing. An append is answered only when the log has all of it durably.

    One that fails leaves nothing in a log that has transactions; in Kafka any part of it may stand, and come again when it
    is appended again: readers tell by the ids.
    """

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def append(self, messages: Sequence[Message]) -> list[Place]:
        """Write the messages in order, each to the partition its key hashes to. Returns where each one stands."""


class LogRestorer(Protocol):
    """Writing a new log from the records of another one, each into the partition it was in, as like them as it can be.

    ``keeps_offsets`` says whether a record stands where it stood; else each partition counts from 0, without holes.
    """

    keeps_offsets: bool

    async def prepare(self, *, partitions: int, oldest: int) -> list[str]:
        """Make the log, or see that the one that is there is fit; returns what people should know about it.

        ``oldest`` is the least record timestamp there will be (Unix milliseconds). Raises LogError where records would not
        stay as they are: the message says what to change.
        """

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def write(self, partition: int, records: Sequence[Record]) -> None:
        """Write records behind what the partition has, with the timestamps they have; answered when it has them durably."""
