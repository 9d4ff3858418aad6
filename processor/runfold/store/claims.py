"""What a claim of a partition does to its row, the same in every store, and what can be concluded from it.

A *takeover* is a claim from an owner that had not let go: it crashed, froze, or was cut off. Deaths at one and the same
position are suspicious, for a record may be what kills whoever folds it. Such a partition is folded record by record, each
marked as on trial before it is touched; a record that was on trial at two deaths is what kills. One death proves nothing:
a process can be ended from outside at any moment. An owner whose process is still there has not died, however long it is
silent: records do not freeze processes, and being taken over while frozen says nothing of what it had in hand.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from runfold.store.owners import is_there
from runfold.store.port import ClaimHistory, Lease

STALLS: Final = 3
"""So many deaths without progress, and records are taken in hand one by one."""
DEATHS: Final = 2
"""A record that was in hand alone when so many processes ended is what ended them."""


class ClaimedRow(Struct, frozen=True, kw_only=True):
    """A partition's row as a claim finds it, under lock. ``lease_until`` and the clock are Unix milliseconds."""

    partition: int
    position: int
    epoch: int
    owner: str | None
    lease_until: int
    first_offset: int
    last_offset: int | None
    last_hash: bytes | None
    history: ClaimHistory

    def may_go_to(self, owner: str, *, now: int) -> bool:
        """Whether it is free, expired, or ``owner``'s already."""
        return self.owner in (None, owner) or self.lease_until <= now

    def claimed_by(self, owner: str) -> Lease:
        """The lease that ``owner`` gets, one epoch later; its history is what has to be written back."""
        former = None if self.owner == owner else self.owner
        died = former is not None and not is_there(former)
        return Lease(
            partition=self.partition,
            position=self.position,
            epoch=self.epoch + 1,
            first_offset=self.first_offset,
            last_offset=self.last_offset,
            last_hash=self.last_hash,
            taken_from=former,
            history=_continued(self, takeover=former is not None, died=died),
        )


def stalls(history: ClaimHistory) -> bool:
    """Whether so many owners got no further that records have to be taken in hand one by one."""
    return history.stalled >= STALLS


def killer(history: ClaimHistory) -> int | None:
    """The offset of the record that ends the processes that fold it, if there is one."""
    return history.suspect if history.deaths >= DEATHS else None


def _continued(row: ClaimedRow, *, takeover: bool, died: bool) -> ClaimHistory:
    """An owner who let go in order, claims its own again, or is frozen, proves nothing: then the counts stay as they are."""
    before, at = row.history, row.position
    suspect, deaths = (before.suspect, before.deaths) if (before.suspect or 0) >= at else (None, 0)
    if died and before.trial is not None and before.trial >= at:
        suspect, deaths = before.trial, deaths + 1 if suspect == before.trial else 1
    return ClaimHistory(
        takeovers=before.takeovers + takeover,
        stalled=before.stalled + died if before.claimed_at == at else 0,
        claimed_at=at,
        trial=None,
        suspect=suspect,
        deaths=deaths,
    )
