"""The two questions that are asked most, answered without the framework's routing: it costs more than their answers do.

Whatever is not plainly one of them goes the long way, which answers the same (a test holds the two together). Ids are
taken from the path as it was sent, so that one may hold a slash.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl, unquote_to_bytes

from litestar.types import HTTPScope

from runfold.api import runs
from runfold.api.api import Api
from runfold.api.auth import Caller
from runfold.api.errors import BadRequest
from runfold.api.parameters import unknown_parameter

_RUNS: Final = re.compile(rb"/v1/threads/([^/?]+)/runs(?:/([^/?]+))?")
_PARAMETERS: Final = ("limit", "order", "after", "before")
_WHOLE: Final = re.compile(r"[0-9]{1,9}")


class Answer:
    """What a question through the short cut comes to: the ids it names, and what it asks of them."""

    def __init__(self, thread_id: str, run_id: str | None, query: bytes) -> None:
        self._thread_id, self._run_id, self._query = thread_id, run_id, query

    async def __call__(self, api: Api, caller: Caller) -> tuple[bytes, dict[str, str]]:
        """Body and headers. Raises ApiError."""
        query = _parameters(self._query, () if self._run_id is not None else _PARAMETERS)
        if self._run_id is not None:
            return await runs.retrieve(api, caller, thread_id=self._thread_id, run_id=self._run_id)
        return await _list(api, caller, self._thread_id, query), {}


def short_cut(scope: HTTPScope) -> Answer | None:
    """The answer to a request, where there is a short cut to it."""
    if scope["method"] != "GET" or b"wait_for" in scope["query_string"] or b"wait_seconds" in scope["query_string"]:
        return None
    found = _RUNS.fullmatch(scope["raw_path"])
    if found is None:
        return None
    return Answer(_text(found[1]), None if found[2] is None else _text(found[2]), scope["query_string"])


def _text(quoted: bytes) -> str:
    return (unquote_to_bytes(quoted) if b"%" in quoted else quoted).decode("utf-8", "replace")


@lru_cache(maxsize=256)
def _parameters(query: bytes, known: tuple[str, ...]) -> Mapping[str, str]:
    """What a query asks; most ask the same. Raises BadRequest."""
    told = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    for name, _ in told:
        if name not in known:
            raise unknown_parameter(name)
    return dict(told)


async def _list(api: Api, caller: Caller, thread_id: str, query: Mapping[str, str]) -> bytes:
    limit, order = query.get("limit", "20"), query.get("order", "desc")
    if not _WHOLE.fullmatch(limit) or not 1 <= int(limit) <= runs.MOST:
        raise _invalid("limit", f"a whole number from 1 to {runs.MOST} is wanted")
    if order not in ("asc", "desc"):
        raise _invalid("order", "asc or desc is wanted")
    return await runs.list_of_thread(
        api,
        caller,
        thread_id=thread_id,
        limit=int(limit),
        order="asc" if order == "asc" else "desc",
        after=query.get("after"),
        before=query.get("before"),
    )


def _invalid(name: str, what: str) -> BadRequest:
    return BadRequest(f"Invalid value for '{name}': {what}.", param=name, code="invalid_value")
