"""What every row that is written is stamped with: the small keys of its dimensions, and the generation of its fold."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from runfold.fold.usage import Dimensions
from runfold.store.sqlite_keys import YOUNG
from runfold.store.sqlite_links import live_transaction

_MOST: Final = 20_000
"""Keys held in memory: about 10 MB. Where more are in use, a lookup in the table takes 5 µs."""


class Stamp:
    """Belongs to one writing connection. ``fold`` is the number of the generation that writes, None until bound."""

    def __init__(self, *, young: int = YOUNG) -> None:
        self.fold: int | None = None
        self.young = young
        self._keys: dict[Dimensions, int] = {}
        self._by_identity: dict[int, int] = {}  # of the very objects in _keys, which live as long: no text is hashed

    def key(self, db: sqlite3.Connection, dimensions: Dimensions) -> int:
        """The key of these dimensions, in a transaction of the caller's, where they may get one only now."""
        number = self._keys.get(dimensions)
        return self._look_up(db, dimensions) if number is None else number

    def keys(self, db: sqlite3.Connection, dimensions: Sequence[Dimensions]) -> list[int]:
        """The keys of many dimensions, in their order; see :meth:`key`."""
        return [
            self.key(db, of) if number is None else number
            for of, number in zip(dimensions, map(self._by_identity.get, map(id, dimensions)), strict=True)
        ]

    def _look_up(self, db: sqlite3.Connection, dimensions: Dimensions) -> int:
        row = db.execute(
            """select n from dimension
                where (model, assistant_id, project_id, user_id, api_key_id) = (?, ?, ?, ?, ?)""",
            dimensions,
        ).fetchone()
        if row is None:
            # Not upsert: a key that is there already is the rule, and must not be written again.
            row = db.execute(
                """insert into dimension (model, assistant_id, project_id, user_id, api_key_id) values (?, ?, ?, ?, ?)
                    returning n""",
                dimensions,
            ).fetchone()
        if len(self._keys) >= _MOST:
            self.forget()
        number = self._keys[dimensions] = self._by_identity[id(dimensions)] = int(row[0])
        return number

    def forget(self) -> None:
        """After a failed transaction: keys that were given in it do not exist."""
        self._by_identity.clear()
        self._keys.clear()


@contextmanager
def stamped_transaction(db: sqlite3.Connection, stamp: Stamp) -> Iterator[None]:
    """A transaction after whose failure the stamp no longer knows what was not written."""
    try:
        with live_transaction(db):
            yield
    except BaseException:
        stamp.forget()
        raise
