"""What a ``postgresql://`` URL says: how to connect, and the settings of ours among its options. Pure, no driver.

``postgresql://user:password@host:5432/database?schema=runfold&pooler=transaction``: the options of ours are taken out, all
others (``sslmode`` and its kin) are the driver's. Messages and logs name :attr:`Database.place`, never the URL.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from msgspec import Struct
from msgspec.structs import replace

from runfold.store.port import StoreRefused

SCHEMES: Final = ("postgresql", "postgres")
DEFAULT_SCHEMA: Final = "runfold"
_CHOICES: Final = {"pooler": ("none", "transaction"), "synchronous_commit": ("off", "on")}
_SCHEMA: Final = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")


class Database(Struct, frozen=True, kw_only=True):
    """One schema of one database. ``dsn`` holds the password: never show it; ``place`` is for people.

    ``pooled``: a pooler hands every transaction to another backend, so nothing may be kept in a session.
    ``synchronous_commit`` is PostgreSQL's, for batches: what a crash of the server takes is still in the log, and the
    position that goes with it is taken too. All other writes are synchronous.
    """

    dsn: str
    place: str
    schema: str = DEFAULT_SCHEMA
    pooled: bool = False
    synchronous_commit: str = "off"

    def beside(self, schema: str) -> Database:
        """Another schema of the same database."""
        return replace(self, schema=schema, place=f"{self.place.partition('?')[0]}?{schema=!s}")


def parse_url(url: str) -> Database:
    """Raises StoreRefused, naming RUNFOLD_STORE, where the URL cannot be used."""
    parts = urlsplit(url)
    place = f"{parts.netloc.rpartition('@')[2] or 'localhost'}{parts.path}"
    if parts.scheme not in SCHEMES:
        raise StoreRefused("RUNFOLD_STORE: postgresql://USER@HOST:PORT/DATABASE is wanted")
    ours: dict[str, str] = {}
    drivers: list[tuple[str, str]] = []
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name == "schema" or name in _CHOICES:
            ours[name] = value
        else:
            drivers.append((name, value))
    for name, choices in _CHOICES.items():
        if ours.setdefault(name, choices[0]) not in choices:
            raise StoreRefused(f"RUNFOLD_STORE ({place}): {name}={ours[name]}: one of {', '.join(choices)} is wanted")
    schema = ours.get("schema", DEFAULT_SCHEMA)
    if not _SCHEMA.fullmatch(schema):
        raise StoreRefused(
            f"RUNFOLD_STORE ({place}): schema={schema}: small letters, digits and underscores are wanted, and no pg_ in front"
        )
    return Database(
        dsn=urlunsplit((SCHEMES[0], parts.netloc, parts.path, urlencode(drivers), "")),
        place=f"{place}?{schema=!s}",
        schema=schema,
        pooled=ours["pooler"] == "transaction",
        synchronous_commit=ours["synchronous_commit"],
    )
