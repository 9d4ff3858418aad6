"""Which file is the live store: links from one file to the next, so that no file that somebody has open is ever renamed.

SQLite finds a database's write-ahead log by the database's name. Were another file moved to that name while connections
are open, two databases would share one log for as long as they stay, and read each other's pages. So files keep their
names, and the one that is superseded says so itself: ``successor`` names the file that follows, ``number`` the switch that
made it so. A link is written in the superseded file's last transaction, which is the whole of a switch (see
:mod:`runfold.store.sqlite_shadows`); everybody looks for it inside each transaction, and goes on in the next file.

Switches are numbered from 1, upwards for ever. A link is followed only if its number is above that of the link by which
one came: going back to a former file is then one link more, and there is never a circle. Beside the link stand ``former``,
the file that this one took over from, and ``scope``, what a rebuild was told to fold (null: served from the beginning).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from runfold.store.port import StoreUnreachable
from runfold.store.sqlite_connection import READ, WRITE, connect, transaction
from runfold.store.sqlite_errors import translated

ITSELF: Final = 2**62
"""For a file that is wanted itself, wherever its link leads: no link has this number."""

_LINK: Final = "select successor, number from standing where successor is not null and number > arrived()"


class Place(NamedTuple):
    """A file, and the number of the link by which one came to it: links up to that number are not followed."""

    path: Path
    arrived: int = 0


class Superseded(Exception):
    """A file is no longer the live one: nothing was read or written. ``successor`` is the name of the one that follows."""

    def __init__(self, successor: str, number: int) -> None:
        super().__init__(f"superseded by {successor} in switch {number}")
        self.successor, self.number = successor, number

    def after(self, left: Path) -> Place:
        """Where to go on from the file at ``left``."""
        return Place(left.with_name(self.successor), self.number)


def place_of(path: Path) -> Place:
    """Where the links begin. The files that follow stand beside the file itself, not beside a link of the file system."""
    return Place(path.resolve() if path.is_symlink() else path)


def open_live(
    place: Place, *, mode: str, factory: type[sqlite3.Connection] = sqlite3.Connection
) -> tuple[sqlite3.Connection, Place]:
    """A connection to the file that the links from ``place`` lead to, and where that is. Raises StoreError."""
    while True:
        with translated(place.path):
            db = connect(place.path, mode=mode, factory=factory)
            try:
                found = _found(db, place)
            except Superseded as link:
                db.close()
                place, mode = _there(link.after(place.path)), READ if mode == READ else WRITE
            except BaseException:
                db.close()
                raise
            else:
                db.create_function("arrived", 0, partial(int, found.arrived))
                return db, found


def check_current(db: sqlite3.Connection) -> None:
    """Raise Superseded where the file is no longer the live one; in a transaction of the caller's."""
    link = db.execute(_LINK).fetchone()
    if link is not None:
        raise Superseded(*link)


@contextmanager
def live_transaction(db: sqlite3.Connection, *, begin: str = "begin immediate") -> Iterator[None]:
    """A transaction of the live file. Raises Superseded where it is no longer that: nothing has happened then."""
    with transaction(db, begin=begin):
        check_current(db)
        yield


def set_link(db: sqlite3.Connection, successor: str | None, number: int) -> None:
    """Say which file follows, in a transaction of the caller's; None where none does, as of that switch."""
    db.execute("update standing set successor = ?, number = ?", (successor, number))


def _found(db: sqlite3.Connection, place: Place) -> Place:
    """The place itself. Raises Superseded where its link leads on."""
    (known,) = db.execute("select exists (select 1 from sqlite_master where name = 'standing')").fetchone()
    successor, number = db.execute("select successor, number from standing").fetchone() if known else (None, 0)
    if successor is None:
        return Place(place.path, max(place.arrived, number))
    if number > place.arrived:
        raise Superseded(successor, number)
    return place


def _there(place: Place) -> Place:
    if not place.path.exists():
        raise StoreUnreachable(
            f"the live store {place.path} is missing: the one that it followed (RUNFOLD_STORE) names it. Put it back, or name "
            "another store"
        )
    return place
