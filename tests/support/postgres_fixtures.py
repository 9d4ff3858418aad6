"""Fixtures that give each test a PostgreSQL schema of its own, and the hooks that leave nothing of it behind.

Making a database takes 0.3 s, making a store's tables 0.03 s: so each worker has one database, and each test a schema in
it. Without PostgreSQL these tests are skipped, and say why; under ``CI=true`` they fail.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from postgres_server import RUN_FOLDER, Server, Unavailable, end_run, own_server, shared_server


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        os.environ[RUN_FOLDER] = f"{tempfile.gettempdir()}/runfold-tests-{os.getpid()}-{uuid4().hex[:8]}"


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        end_run()


def unavailable(error: Unavailable) -> None:
    """Skip the test, or fail it where everything has to be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(str(error))
    pytest.skip(str(error))


def away_from_loops(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run a coroutine to its end on a thread of its own: fixtures must not meddle with their test's event loop."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(work())).result()


async def administer(url: str, *statements: str) -> None:
    """Run statements on a connection of their own, each its own transaction."""
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def postgres_database() -> Iterator[str]:
    """The URL of this worker's database, its owner an administrator."""
    try:
        server = shared_server()
    except Unavailable as error:
        unavailable(error)
        raise
    name = f"runfold_test_{uuid4().hex[:16]}"
    away_from_loops(lambda: administer(server, f"create database {name}"))
    yield urlsplit(server)._replace(path=f"/{name}").geturl()
    away_from_loops(lambda: administer(server, f"drop database {name} with (force)"))


@pytest.fixture
def postgres_url(postgres_database: str) -> str:
    """The URL of a store of the test's own, not made yet."""
    return f"{postgres_database}{'&' if '?' in postgres_database else '?'}schema=test_{uuid4().hex[:16]}"


@pytest.fixture
def postgres_own_server() -> Iterator[Server]:
    """A server that the test may stop, kill and starve."""
    try:
        with own_server() as server:
            yield server
    except Unavailable as error:
        unavailable(error)
