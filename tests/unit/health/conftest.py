"""What the tests of health share: a server of pages at a free port, and a service in this process that is watched."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from probing import LISTEN, Probe
from serving import Serving, serving, settings_of
from structlog.testing import capture_logs

from runfold import wiring
from runfold.health.watching import watched

Watch = Callable[..., AbstractAsyncContextManager[tuple[Serving, Probe]]]


@pytest.fixture(autouse=True)
def _collector(collector: None) -> None:
    """Services run in the tests' own process."""


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("RUNFOLD_")]:
        monkeypatch.delenv(name)
    yield


@pytest.fixture
def watching(tmp_path: Path) -> Watch:
    """Serves the data folder in this process, watched: the service, and a probe of it."""

    @asynccontextmanager
    async def watch(store: Any = None, source: Any = None, **told: object) -> AsyncIterator[tuple[Serving, Probe]]:
        settings = settings_of(tmp_path, **(LISTEN | told))
        readers = {
            "open_source": partial(wiring.open_source, settings),
            "open_store": partial(wiring.open_store, settings),
        }

        with capture_logs() as before:
            async with watched(settings, **readers) as observer:
                address = next(line["address"] for line in before if line["event"] == "health_listening")
                async with serving(tmp_path, store=store, source=source, observer=observer, **told) as service:
                    yield service, Probe(address)

    return watch
