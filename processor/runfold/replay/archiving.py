"""Archiving: what a log holds, copied into an archive so that it outlives retention. Beside a living service, no lease taken.

Once, up to the ends that the log has now; or on and on, a segment whenever there is enough for one or it is time. What may
change here is when a segment is begun; what is in one is the archive's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING

from runfold.log.port import LogSource, LogUnreachable, Range
from runfold.replay.shadow import Progress

if TYPE_CHECKING:
    from runfold.log.archive_manifest import Segment
    from runfold.log.archive_writer import ArchiveWriter

_LOOK_SECONDS = 1.0


async def archive(
    source: LogSource, writer: ArchiveWriter, *, progress: Progress | None = None
) -> AsyncIterator[Segment]:
    """Archive everything that the log has now and the archive has not; gives each segment when it is there.

    The caller holds the writer's lock. Raises what :meth:`ArchiveWriter.begin` and its ``archive`` raise.
    """
    ends = _ends(await writer.begin(source))
    async for segment in _archive(source, writer, ends, _Counted(writer, ends, progress)):
        yield segment


async def follow(
    source: LogSource,
    writer: ArchiveWriter,
    *,
    age: float,
    clock: Callable[[], float],
) -> AsyncIterator[Segment]:
    """Archive what there is, then go on until cancelled.

    A partition gets its next segment when there is enough for a whole one, or something has waited for ``age`` seconds. A
    log that does not answer is asked again until the limits' patience ends, and LogUnreachable is raised. ``clock`` is in
    seconds, and never goes back.
    """
    waiting: dict[int, float] = {}
    due: dict[int, int] | None = None
    answered = clock()
    while True:
        try:
            if due is None:
                due = _ends(await writer.begin(source))
            else:
                ranges = await source.ranges(range(len(writer.manifest.begins)))
                due = _due(writer, ranges, waiting, now=clock(), age=age)
                if due:
                    await writer.begin(source)
            answered = clock()
            async for segment in _archive(source, writer, due, _Counted(writer, due, None)):
                waiting.pop(segment.partition, None)
                answered = clock()
                yield segment
        except LogUnreachable:
            if clock() - answered >= writer.limits.patience:
                raise
        await asyncio.sleep(_LOOK_SECONDS)


def _ends(ranges: Mapping[int, Range]) -> dict[int, int]:
    return {which: held.end for which, held in ranges.items()}


def _due(
    writer: ArchiveWriter, ranges: Mapping[int, Range], waiting: dict[int, float], *, now: float, age: float
) -> dict[int, int]:
    """The ends of the partitions that get a segment now; ``waiting`` keeps since when the others have had something."""
    due = {}
    for which, archived in writer.manifest.ranges().items():
        behind = ranges[which].end - archived.end
        if behind > 0 and (behind >= writer.limits.records or now - waiting.setdefault(which, now) >= age):
            due[which] = ranges[which].end
    return due


async def _archive(
    source: LogSource, writer: ArchiveWriter, ends: Mapping[int, int], counted: _Counted
) -> AsyncIterator[Segment]:
    for partition, end in sorted(ends.items()):
        async for segment in writer.archive(source, partition, end=end, watch=counted.reached):
            counted.reached(segment.partition, segment.end)
            yield segment


class _Counted:
    """Tells how many offsets are archived, of how many."""

    def __init__(self, writer: ArchiveWriter, ends: Mapping[int, int], progress: Progress | None) -> None:
        self._positions = {which: held.end for which, held in writer.manifest.ranges().items()}
        self._total = sum(max(0, end - self._positions[which]) for which, end in ends.items())
        self._done, self._progress = 0, progress

    def reached(self, partition: int, position: int) -> None:
        self._done += position - self._positions[partition]
        self._positions[partition] = position
        if self._progress is not None:
            self._progress(self._done, self._total)
