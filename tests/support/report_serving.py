"""Servers of reports for tests, over each kind of store, and reports asked for as OpenAI's client asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import openai
import pytest
from api_serving import ApiServer, api_server, publish_and_fold

from runfold_schemas import Event

STORES = ("sqlite", "postgresql")


@contextmanager
def reporting(
    request: pytest.FixtureRequest, folder: Path, events: Sequence[Event], **told: object
) -> Iterator[ApiServer]:
    """A server over the events, in the kind of store that the fixture's parameter names."""
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_database")
        told["store"] = f"{url}{'&' if '?' in url else '?'}schema=test_{uuid4().hex[:16]}"
    publish_and_fold(folder, events, **{name: value for name, value in told.items() if name == "store"})
    with api_server(folder, **told) as made:
        yield made


def reports(server: ApiServer) -> Any:
    """``client.admin.organization.usage`` of OpenAI's own client, without its patience."""
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", admin_api_key="any", max_retries=0)
    return client.admin.organization.usage


def all_pages(ask: Any, **asked: Any) -> list[dict[str, Any]]:
    """The buckets of all pages, as dictionaries."""
    found, page = [], ask(**asked)
    found += page.to_dict()["data"]
    while page.has_more:
        page = ask(**asked, page=page.next_page)
        found += page.to_dict()["data"]
    assert page.next_page is None
    return found
