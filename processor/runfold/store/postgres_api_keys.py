"""API keys of the PostgreSQL store."""

from __future__ import annotations

from runfold.store.port import ApiKey
from runfold.store.postgres_connection import NOW, Session
from runfold.store.postgres_rows import stored_text, told_text


async def add(session: Session, key: ApiKey) -> None:
    project = None if key.project_id is None else stored_text(key.project_id)
    told = (key.key_id, key.hash, stored_text(key.name), " ".join(key.scopes), project, key.created_at, key.revoked_at)
    async with session.writing():
        await session.connection.execute("insert into api_key values ($1, $2, $3, $4, $5, $6, $7)", *told)


async def revoke(session: Session, key_id: str) -> bool:
    async with session.writing():
        done: str = await session.connection.execute(
            f"update api_key set revoked_at = coalesce(revoked_at, {NOW}) where key_id = $1", stored_text(key_id)
        )
    return done != "UPDATE 0"


async def read(session: Session) -> list[ApiKey]:
    async with session.glancing():
        rows = await session.connection.fetch(
            """select key_id, hash, name, scopes, project_id, created_at, revoked_at from api_key
                order by created_at, key_id"""
        )
    return [
        ApiKey(
            key_id=row["key_id"],
            hash=row["hash"],
            name=told_text(row["name"]),
            scopes=tuple(row["scopes"].split()),
            project_id=None if row["project_id"] is None else told_text(row["project_id"]),
            created_at=row["created_at"],
            revoked_at=row["revoked_at"],
        )
        for row in rows
    ]
