"""A Run followed through the API's feed, for whoever has an API and not the store (RUNFOLD_API_URL).

The feed says that it changed, the API how it stands. Whatever breaks off is taken up again where it ended.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

from runfold.cli.exits import NoError, WrongUseError
from runfold.cli.printing import tell
from runfold.config import Settings

SILENCE: Final = 30.0
"""Seconds without a word, of which there are some even while nothing happens, after which a connection is given up."""

PAUSE: Final = 1.0
_BROKEN: Final = (URLError, http.client.HTTPException, OSError)


def follow(settings: Settings, run_id: str) -> Iterator[dict[str, Any]]:
    """The run as ``GET /v1/runfold/runs/{run_id}`` tells it: now, if there is one, and whenever it changes.

    Raises WrongUseError where the API refuses us, NoError where it has lost the place from which we would go on.
    """
    position, seen = "", None
    while True:
        try:
            with _asked(settings, "feed", {"run_id": run_id, **({"after": position} if position else {})}) as told:
                for position, changed in _standing(told):  # noqa: B007 - where we stand when it breaks
                    if (changed or seen is None) and (run := _known(settings, run_id)) not in (None, seen):
                        seen = run
                        yield run
        except HTTPError as error:
            _refused(error)
        except _BROKEN as error:
            tell(f"no answer from {settings.api.url} ({error}); trying again")
        time.sleep(PAUSE)


def _known(settings: Settings, run_id: str) -> dict[str, Any] | None:
    try:
        with _asked(settings, f"runs/{quote(run_id, safe='')}", {}) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except HTTPError as error:
        if error.code == 404:
            return None
        raise


def _asked(settings: Settings, path: str, query: dict[str, str]) -> Any:
    url = f"{settings.api.url.rstrip('/')}/v1/runfold/{path}?{urlencode(query)}"
    headers = {"Authorization": f"Bearer {settings.api.key}"} if settings.api.key else {}
    return urlopen(Request(url, headers=headers), timeout=SILENCE)  # noqa: S310 - the setting takes http and https alone


def _standing(lines: Iterable[bytes]) -> Iterator[tuple[str, bool]]:
    """Where each block of the stream stands, and whether it tells of a change."""
    place, changed = "", False
    for line in lines:
        name, _, value = line.decode().rstrip("\r\n").partition(": ")
        if name == "id":
            place = value
        elif name == "event":
            changed = True
        elif not name and place:
            yield place, changed
            place, changed = "", False


def _refused(error: HTTPError) -> None:
    """Raise what a refusal means; one that may pass is waited for."""
    if error.code >= 500 or error.code == 429:
        tell(f"the API answers {error.code}; trying again")
        return
    try:
        message = json.load(error)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = error.reason
    if error.code == 410:
        raise NoError(message)
    raise WrongUseError(f"RUNFOLD_API_URL, RUNFOLD_API_KEY: {message}")
