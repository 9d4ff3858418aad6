"""A store for the time of one question: a SQLite file in a workspace folder, gone when the answer is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from tempfile import TemporaryDirectory

from runfold.store.port import Store, StoreUnreachable
from runfold.store.sqlite import SqliteStore
from runfold.store.sqlite_connection import MAKE, connect
from runfold.store.sqlite_errors import translated
from runfold.store.sqlite_schema import OF_LISTS, drop_late_indexes, migrate


@asynccontextmanager
async def fresh_store(workspace: Path, *, listed: bool) -> AsyncIterator[Store]:
    """A store of nothing in the folder, open for writing. Raises StoreUnreachable where the folder cannot be written.

    Unless runs are to be ``listed`` from it, it has no index for that, which every row would pay for.
    """
    try:
        folder = TemporaryDirectory(prefix="replay-", dir=workspace)
    except OSError as error:
        raise StoreUnreachable(f"no folder for the shadow can be made in {workspace}: {error}") from error
    with folder as path:
        file = Path(path, "shadow.db")
        if not listed:
            await asyncio.to_thread(_make_unlisted, file)
        store = SqliteStore(file, turn=file.with_name("turn"))
        await store.open()
        try:
            yield store
        finally:
            await store.close()


def _make_unlisted(path: Path) -> None:
    with translated(path), closing(connect(path, mode=MAKE)) as db:
        migrate(db, path)
        drop_late_indexes(db, OF_LISTS)
