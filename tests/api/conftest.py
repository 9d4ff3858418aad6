"""What the tests of the API share: an untuned collector, and a server over an empty store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from api_serving import ApiServer, api_server, publish_and_fold


@pytest.fixture(autouse=True)
def untuned(collector: None) -> None: ...


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    """A server over an empty store."""
    publish_and_fold(tmp_path, [])
    with api_server(tmp_path) as made:
        yield made
