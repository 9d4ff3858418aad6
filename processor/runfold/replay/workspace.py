"""A store for the time of one question: a SQLite file in a workspace folder, gone when the answer is there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from runfold.store.port import Store, StoreUnreachable
from runfold.store.sqlite import SqliteStore


@asynccontextmanager
async def fresh_store(workspace: Path) -> AsyncIterator[Store]:
    """A store of nothing in the folder, open for writing. Raises StoreUnreachable where the folder cannot be written."""
    try:
        folder = TemporaryDirectory(prefix="replay-", dir=workspace)
    except OSError as error:
        raise StoreUnreachable(f"no folder for the shadow can be made in {workspace}: {error}") from error
    with folder as path:
        store = SqliteStore(Path(path, "shadow.db"))
        await store.open()
        try:
            yield store
        finally:
            await store.close()
