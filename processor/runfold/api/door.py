"""The door: what every request passes before any room sees it, and every answer on its way out.

On the way in: a request id, the name by which we were asked (``Host``, against pages that rebind a name of theirs to loopback),
who asks, how often, with what kind of body. On the way out: request id, freshness and security headers, and our words for
whatever went wrong, within the time an answer may take.
"""

from __future__ import annotations

import asyncio
from random import getrandbits
from typing import Final

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from runfold.api.api import Api
from runfold.api.auth import ANYBODY, NOBODY, READER, Caller, require
from runfold.api.console import is_file
from runfold.api.errors import JSON, ApiError, TimedOut, Unauthorized, answer_of
from runfold.api.freshness import FreshnessCache, Header
from runfold.api.keys import KeyRing
from runfold.api.limits import Limits
from runfold.api.manners import Manners, Told, told_by
from runfold.api.short_cut import short_cut

SECURITY_HEADERS: Final[list[Header]] = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
]
"""A room may answer with a header of these names itself: then its own stands."""

_CONTENT: Final = (b"content-type", JSON.encode())


class Door:
    """The ASGI application. ``framework`` is what is behind the door; ``beyond_loopback``: strangers may come to it."""

    def __init__(self, framework: ASGIApp, api: Api, *, beyond_loopback: bool) -> None:
        self.framework, self.api = framework, api
        self.keys = KeyRing(api.store, without_keys=READER if beyond_loopback else ANYBODY)
        self._manners, self._limits = Manners(api.settings.api), Limits(api.settings.api.rate)
        self._time_limit = api.settings.api.time_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self.framework(scope, receive, send)
            return
        told = told_by(scope)
        if told.method == "HEAD":
            scope = {**scope, "method": "GET"}  # the server, which keeps its own scope, sends no body
        leaving = Leaving(send, told, self.api.freshness)
        try:
            async with asyncio.timeout(self._time_limit) as limit:
                leaving.limit = limit
                await self._let_in(scope, told, receive, leaving)
        except TimeoutError:
            await leaving.refuse(TimedOut(f"No answer within {self._time_limit:g} seconds.", code="timeout"))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told in our words
            await leaving.refuse(answer_of(error))

    async def _let_in(self, scope: HTTPScope, told: Told, receive: Receive, leaving: Leaving) -> None:
        self._manners.check(told)
        leaving.caller = caller = await self._admitted(told, str(scope["path"]))
        if not self.api.freshness.young():
            await self.api.freshness.renew()
        cut = short_cut(scope)
        if cut is not None:
            require(caller, "read")
            await leaving.answer(*await cut(self.api, caller))
            return
        scope.setdefault("state", {})["caller"] = caller
        await self.framework(scope, receive, leaving.send)

    async def _admitted(self, told: Told, path: str) -> Caller:
        """Who asks, if not too often. Preflights come without a key, and are told nothing but what may be asked.

        So do browsers that open the console, whose files tell nothing either.
        """
        if told.method == "OPTIONS" or is_file(path):
            self._limits.take(told.address)
            return NOBODY
        try:
            caller = await self.keys.caller(told.authorization)
        except Unauthorized:
            self._limits.take(told.address)  # so that guessing is no faster than asking
            raise
        self._limits.take(caller.key_id or told.address)
        return caller

    async def close(self) -> None:
        await self.keys.close()


class Leaving:
    """The way out for one answer."""

    def __init__(self, send: Send, told: Told, freshness: FreshnessCache) -> None:
        self._send, self._freshness = send, freshness
        self._request_id = told.request_id or b"req_%032x" % getrandbits(128)
        self._bodiless = told.method == "HEAD"
        self._begun = False
        self.caller: Caller = NOBODY
        self.limit: asyncio.Timeout | None = None

    async def send(self, message: Message) -> None:
        """A message of the framework's: the first one is given its headers, and ends the time limit."""
        if message["type"] != "http.response.start":
            if not self._bodiless:
                await self._send(message)
            return
        self._begin()
        present = {name.lower() for name, _ in message["headers"]}
        message["headers"] = [
            *message["headers"],
            *(header for header in SECURITY_HEADERS if header[0] not in present),
            (b"x-request-id", self._request_id),
            *self._freshness.headers_for(self.caller),
        ]
        await self._send(message)
        if self._bodiless:  # at once: a stream would hold its connection until the caller leaves
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def answer(self, body: bytes, told: dict[str, str], *, status: int = 200) -> None:
        """A whole answer, past the framework."""
        self._begin()
        headers = [
            _CONTENT,
            (b"content-length", b"%d" % len(body)),
            *SECURITY_HEADERS,
            (b"x-request-id", self._request_id),
            *((name.encode(), value.encode()) for name, value in told.items()),
            *self._freshness.headers_for(self.caller),
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def refuse(self, error: ApiError) -> None:
        """An error, past the framework. Where an answer has begun its connection breaks, which says that it is not whole."""
        if self._begun:
            raise error
        self.limit = None
        await self.answer(error.body(), error.headers, status=error.status)

    def _begin(self) -> None:
        self._begun = True
        if self.limit is not None:
            self.limit.reschedule(None)  # an answer may take its time, once it has begun
