"""Part of the runs alone, for a verify that is cheap: a sample, or those that are named. Everything else is passed over.

The log is still read in one pass, but little of it is folded. Usage is of all runs, so a part of them says nothing of it,
and nothing is compared there. What may change here is how runs are chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from msgspec import Struct
from xxhash import xxh3_64_intdigest

from runfold.replay.run_range import RefoldRefused, known_ranges
from runfold.store.port import Store
from runfold.store.snapshot import JOURNAL_COLUMNS, LETTER_COLUMNS, RUN_COLUMNS, Row, StoreSnapshot

Chosen = Callable[[str], bool]
"""Whether a run belongs to the part, by its id."""

_RUN, _LETTER, _JOURNAL = (columns.index("run_id") for columns in (RUN_COLUMNS, LETTER_COLUMNS, JOURNAL_COLUMNS))
_HASHES = 1 << 64


def sample(share: float, *, seed: int) -> Chosen:
    """About ``share`` (0 to 1) of all runs; the same ones for the same ``seed``."""
    bound = round(share * _HASHES)
    return lambda run_id: xxh3_64_intdigest(run_id.encode(), seed) < bound


def named(run_ids: Collection[str]) -> Chosen:
    """Those runs and no others."""
    return frozenset(run_ids).__contains__


async def begins_of(store: Store, run_ids: Collection[str]) -> dict[int, int] | None:
    """Per partition where the first record of these runs stands, as far as the store knows.

    None where it does not know all of them, or a row of theirs is damaged: then only the whole log can tell.
    """
    begins: dict[int, int] = {}
    for run_id in run_ids:
        try:
            parts = await known_ranges(store, run_id)
        except RefoldRefused:
            return None
        if not parts:
            return None
        for part in parts:
            begins[part.partition] = min(part.begin, begins.get(part.partition, part.begin))
    return begins


class OfRuns(Struct, frozen=True, kw_only=True):
    """A snapshot with the chosen runs alone, their letters and their journal, and no usage."""

    whole: StoreSnapshot
    chosen: Chosen

    async def positions(self) -> dict[int, int]:
        return await self.whole.positions()

    def runs(self, partition: int) -> Iterator[Row]:
        return self._of(self.whole.runs(partition), _RUN)

    def scan_runs(self) -> Iterator[tuple[int, Row]]:
        return ((partition, row) for partition, row in self.whole.scan_runs() if self.chosen(str(row[_RUN])))

    def letters(self, partition: int) -> Iterator[Row]:
        return self._of(self.whole.letters(partition), _LETTER)

    def journal(self, partition: int) -> Iterator[Row]:
        return self._of(self.whole.journal(partition), _JOURNAL)

    def usage(self) -> Iterator[Row]:
        return iter(())

    async def close(self) -> None:
        await self.whole.close()

    def _of(self, rows: Iterator[Row], place: int) -> Iterator[Row]:
        return (row for row in rows if row[place] is not None and self.chosen(str(row[place])))
