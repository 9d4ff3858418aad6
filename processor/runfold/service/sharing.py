"""Fair share: which partitions a worker should take, and whether it should give one away. Pure.

Every worker decides for itself, from the same small rows. Two who look at the same moment may both want one partition; the
store gives it to one of them, and the next look is a wiser one. Nothing here has to be right for the store to be right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

from runfold.store.port import Crew


class Share(NamedTuple):
    """What is to be done: ``take`` of the partitions that nobody holds, and whether to ``give`` one of those held."""

    quota: int
    take: list[int]
    give: bool


def fair_share(owner: str, held: Collection[int], crew: Crew, *, partitions: int) -> Share:
    """The share of ``owner``, who holds ``held`` of so many ``partitions``.

    Each worker is due the whole part of partitions over workers. Those left over go to whoever holds the most already, so
    that they do not move. One is given only while none lies free: so partitions change hands one at a time, and each
    lies free for no longer than somebody needs to notice.
    """
    holding: Counter[str] = Counter(
        seat.owner for which, seat in crew.seats.items() if seat.owner not in (None, owner) and which < partitions
    )
    holding[owner] = len(held)
    workers = sorted({*crew.alive, *holding}, key=lambda worker: (-holding[worker], worker))
    least, left_over = divmod(partitions, len(workers))
    quota = least + (workers.index(owner) < left_over)
    free = [which for which in range(partitions) if which not in held and _is_free(crew, which, owner)]
    return Share(quota, free[: max(0, quota - len(held))], give=len(held) > quota and not free)


def _is_free(crew: Crew, partition: int, owner: str) -> bool:
    """Also one that the store calls ours and we do not know of: a claim whose answer was lost."""
    seat = crew.seats.get(partition)
    return seat is None or seat.owner in (None, owner)
