"""Stores beside the live one: made for a rebuild, filled at leisure, and exchanged for it while it is served.

What may change here is how an adapter keeps them apart; the protocol of the exchange stands on
:func:`runfold.replay.switch.switch`. A ``name`` is that of a file beside the live one, or of a schema of its database.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from msgspec import Struct

from runfold.store.port import Lease, Store

LIVE: Final = "live"
FORMER: Final = "former"
SHADOW: Final = "shadow"
LEFT: Final = "left"
CARRIED: Final = ("lost_range", "growth", "worker", "api_key")
"""Tables that go over to the successor whole: what people decided, and who works on the store. Notes go over before, for
the fold heeds them."""


class Standing(Struct, frozen=True, kw_only=True):
    """A store, and what it is: live; former, which the live one took over from; shadow, never live yet; or left behind.

    ``scope`` is what a rebuild was told to fold, None where the store was served from its beginning. ``number`` is that of
    the last switch that made it live, 0 for none; of those that are not live it may be higher. ``size`` in bytes.
    """

    name: str
    role: str
    scope: str | None
    number: int
    size: int


class Shadows(Protocol):
    """The stores beside the live one of RUNFOLD_STORE."""

    def alone(self) -> AbstractAsyncContextManager[None]:
        """To be held by whoever makes, fills or exchanges them. Raises StoreBusy while another one holds it."""

    async def standing(self) -> list[Standing]:
        """The live store first, then the others, oldest first. Raises StoreUnreachable where there is no live one."""

    async def make(self, *, scope: str) -> str:
        """A new and empty one, without the indexes that no fold asks; returns its name."""

    def opened(self, name: str) -> Store:
        """The store of that name itself, whichever is live; not opened yet."""

    async def complete(self, name: str) -> None:
        """Make the indexes that are missing, and see that all of it is on the disk."""

    async def hold(self, owner: str, *, lease: float) -> dict[int, Lease]:
        """Through the live store's one door: every partition's epoch is raised, and ``owner`` has it for ``lease`` seconds.

        Whoever folds there meets StalePosition, and gets no partition again until the time is over or they are released.
        """

    async def release(self, owner: str, held: Mapping[int, Lease]) -> None:
        """End a hold before its time, where it still is one."""

    async def exchange(self, name: str, held: Mapping[int, Lease]) -> None:
        """Make the store of that name the live one, in one transaction; the one that was live becomes its former.

        The tables CARRIED are the live one's from then on.

        Raises StalePosition, and changes nothing, where a held partition was taken by another, a position of the two
        differs, or the live store has a note that the other lacks. Afterwards no epoch of before is valid any more.
        """

    async def drop(self, name: str) -> None:
        """Throw away one that is not live. Raises StoreRefused for the live one, or where there is none of that name."""
