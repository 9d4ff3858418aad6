"""What every row that is written is stamped with: the small keys of its dimensions, and the generation of its fold.

Keys are given in a transaction of their own, before the batch's: a key that no row uses harms nothing, and two writers who
meet the same new dimensions do not wait for each other's batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final

from msgspec import msgpack

from runfold.fold.changes import Changes
from runfold.fold.usage import Dimensions
from runfold.store.postgres_connection import Session
from runfold.store.postgres_rows import stored_text

_MOST: Final = 20_000
"""Keys held in memory: about 10 MB. Where more are in use, they are asked for again, all of a batch at once."""

_KNOWN: Final = "select hash, n from dimension where hash = any($1::bytea[])"
_NEW: Final = """insert into dimension (hash, model, assistant_id, project_id, user_id, api_key_id)
    select * from unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[]) on conflict do nothing"""
_encode = msgpack.Encoder().encode


class Stamp:
    """``fold`` is the number of the generation that writes, None until bound; ``switched`` of which store's making it is.

    All numbers are one store's own: after a switch, and whenever one may have been, they are forgotten.
    """

    def __init__(self) -> None:
        self.fold: int | None = None
        self.switched = 0
        self._keys: dict[Dimensions, int] = {}

    def key(self, dimensions: Dimensions) -> int:
        """The key of dimensions that were learnt."""
        return self._keys[dimensions]

    def forget(self) -> None:
        """What was learnt may be of another store."""
        self._keys = {}

    async def learn(self, session: Session, changes: Changes) -> None:
        """Have a key for all dimensions of a batch, giving one to those that are new."""
        wanted = set(_dimensions(changes))
        missing = wanted - self._keys.keys()
        if not missing:
            return
        if len(self._keys) + len(missing) > _MOST:
            self._keys, missing = {}, wanted
        by_hash = dict(sorted((_hash(dimensions), dimensions) for dimensions in missing))
        async with session.glancing():
            known = await self._look_up(session, by_hash)
        if new := by_hash.keys() - known:
            ordered = sorted(new)  # as everybody does, so that no two wait for each other
            columns = zip(*(map(stored_text, by_hash[hashed]) for hashed in ordered), strict=True)
            async with session.writing():
                await session.connection.execute(_NEW, ordered, *map(list, columns))
            # Only now: a key that was given in a transaction that failed does not exist.
            async with session.glancing():
                await self._look_up(session, by_hash)

    async def _look_up(self, session: Session, by_hash: dict[bytes, Dimensions]) -> set[bytes]:
        rows = await session.connection.fetch(_KNOWN, list(by_hash))
        for hashed, number in rows:
            self._keys[by_hash[hashed]] = number
        return {hashed for hashed, _ in rows}


def _hash(dimensions: Dimensions) -> bytes:
    return blake2b(_encode(dimensions), digest_size=16).digest()


def _dimensions(changes: Changes) -> Iterator[Dimensions]:
    every: tuple[Iterable[Dimensions], ...] = (
        (run.dimensions for run in changes.runs),
        (bucket.dimensions for bucket in changes.usage),
        (entry.bucket.dimensions for entry in changes.journal),
    )
    for some in every:
        yield from some
