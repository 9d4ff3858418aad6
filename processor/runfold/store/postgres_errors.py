"""What PostgreSQL's errors mean to people: the one place where they become StoreUnreachable or StoreRefused.

Every message names the database, the setting and the remedy, and no password. Errors that only a bug can cause (a broken
constraint, a wrong statement) pass through as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from asyncpg import ClientConfigurationError, InterfaceError, InternalClientError, PostgresError

from runfold.store.port import StoreError, StoreRefused, StoreUnreachable
from runfold.store.postgres_url import Database

# By SQLSTATE, the longest that matches: five characters name an error, two its class.
_UNREACHABLE: Final = {
    "08": "the connection was lost; whether the last transaction was committed shows when its positions are read again",
    "25006": "it is a read-only standby, or this role may only read; name the primary and a role that writes",
    "25P03": "the transaction stood idle for too long and was ended",
    "25P04": "the transaction took too long and was ended",
    "40": "it could not be done beside others, tried several times",
    "53100": "its disk is full; make room, nothing was half written",
    "53200": "the server is out of memory",
    "53300": "it takes no more connections; raise max_connections, or use a pooler (?pooler=transaction)",
    "53": "the server is short of something",
    "55P03": "another process keeps rows locked; wait for it, or end it",
    "57014": "the statement took too long and was cancelled",
    "57P": "the server is stopping, starting, or ended this connection",
    "58": "reading or writing on the server failed; check its disk",
}
_REFUSED: Final = {
    "28": "this user may not log in; check user and password",
    "3D000": "there is no such database; create it",
    "3F000": "there is no such schema; run `runfold store migrate`",
    "42P01": "its tables are gone; run `runfold store migrate`, or name another schema",
    "42501": "this role may not do that; let its owner write, and grant readers the role runfold_reader",
    "XX001": "it is damaged; build it anew from the log with `runfold replay rebuild`",
    "XX002": "an index is damaged; run REINDEX, or build the store anew with `runfold replay rebuild`",
}


@contextmanager
def translated(database: Database) -> Iterator[None]:
    """Raise what the driver raises inside as a StoreError about this database."""
    try:
        yield
    except PostgresError as error:
        meaning = _meaning(database, error)
        if meaning is None:
            raise
        raise meaning from error
    except ClientConfigurationError as error:
        raise StoreRefused(f"{_named(database)}: the URL cannot be used ({error})") from error
    except (InterfaceError, InternalClientError) as error:
        # "Operation (2)" is how the driver calls a connection that the server has ended, until its socket is closed too.
        if "closed" not in str(error) and "another operation (2)" not in str(error):
            raise
        raise StoreUnreachable(f"{_named(database)}: {_UNREACHABLE['08']} ({error})") from error
    except TimeoutError as error:
        raise StoreUnreachable(f"{_named(database)}: it did not answer in time") from error
    except OSError as error:
        raise StoreUnreachable(f"{_named(database)}: it cannot be reached; is it running? ({error})") from error


def _meaning(database: Database, error: PostgresError) -> StoreError | None:
    state = error.sqlstate or ""
    for length in (5, 3, 2):
        if meaning := _REFUSED.get(state[:length]):
            return StoreRefused(f"{_named(database)}: {meaning} ({error})")
        if meaning := _UNREACHABLE.get(state[:length]):
            return StoreUnreachable(f"{_named(database)}: {meaning} ({error})")
    return None


def _named(database: Database) -> str:
    return f"the store {database.place} (RUNFOLD_STORE)"
