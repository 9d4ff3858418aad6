"""API keys of the SQLite store."""

from __future__ import annotations

import sqlite3

from runfold.store.port import ApiKey
from runfold.store.sqlite_connection import NOW
from runfold.store.sqlite_links import live_transaction


def add(db: sqlite3.Connection, key: ApiKey) -> None:
    told = (key.key_id, key.hash, key.name, " ".join(key.scopes), key.project_id, key.created_at, key.revoked_at)
    with live_transaction(db):
        db.execute("insert into api_key values (?, ?, ?, ?, ?, ?, ?)", told)


def revoke(db: sqlite3.Connection, key_id: str) -> bool:
    with live_transaction(db):
        statement = f"update api_key set revoked_at = ifnull(revoked_at, {NOW}) where key_id = ?"
        return db.execute(statement, (key_id,)).rowcount > 0


def read(db: sqlite3.Connection) -> list[ApiKey]:
    rows = db.execute(
        """select key_id, hash, name, scopes, project_id, created_at, revoked_at from api_key
            order by created_at, key_id"""
    )
    return [
        ApiKey(
            key_id=key_id,
            hash=hash_,
            name=name,
            scopes=tuple(scopes.split()),
            project_id=project_id,
            created_at=created_at,
            revoked_at=revoked_at,
        )
        for key_id, hash_, name, scopes, project_id, created_at, revoked_at in rows
    ]
