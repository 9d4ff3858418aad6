"""What the consumer tells of itself as it goes: a few calls a batch, none an event.

Whoever observes must not raise, wait or block: the calls come from the fold's event loop. What is made of them (metrics,
health, the watchdog) is :mod:`runfold.health`'s matter.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from runfold.fold.changes import Changes
from runfold.service.fetching import Batch


class Observer(Protocol):
    """Told by the consumer and by the keeper of its leases."""

    def partitions_wanted(self) -> None:
        """Partitions are about to be taken, or taken again: until they are, nothing is folded."""

    def partitions_taken(self, positions: Mapping[int, int], *, share: int, taken_over: Collection[int] = ()) -> None:
        """These are all that are held now, each with the position that the store has.

        ``share`` is how many this worker ought to hold, ``taken_over`` those whose owner had not let go of them.
        """

    def partitions_released(self, partitions: Collection[int]) -> None:
        """These were let go of, for others to take."""

    def leases_renewed(self) -> None:
        """The store has taken a renewal: it can be written."""

    def batch_committed(self, batch: Batch, changes: Changes, times: Sequence[float]) -> None:
        """A batch has happened. ``times`` are those (seconds) before load, fold and commit, and after."""

    def batch_dropped(self, error: Exception) -> None:
        """What was in hand is dropped because of this; it will be read again."""

    def log_read(self, positions: Mapping[int, int]) -> None:
        """Nothing is in hand: all that the log gives up to these positions is folded."""

    def lag(self, partitions: Collection[int]) -> int | None:
        """How many offsets of these partitions wait, by the last look at the log's ends; None where one is not known."""


class Unobserved:
    """Nobody looks; see :class:`Observer`."""

    def partitions_wanted(self) -> None: ...

    def partitions_taken(
        self, positions: Mapping[int, int], *, share: int, taken_over: Collection[int] = ()
    ) -> None: ...

    def partitions_released(self, partitions: Collection[int]) -> None: ...

    def leases_renewed(self) -> None: ...

    def batch_committed(self, batch: Batch, changes: Changes, times: Sequence[float]) -> None: ...

    def batch_dropped(self, error: Exception) -> None: ...

    def log_read(self, positions: Mapping[int, int]) -> None: ...

    def lag(self, partitions: Collection[int]) -> int | None:  # noqa: ARG002 - the port's
        return None
