"""The door: what every request passes before any room sees it, and every answer on its way out.

In this order: a request id, the name by which we were asked (``Host``, against pages that rebind a name of theirs to
loopback), who asks, how often, how much. On the way out: request id, freshness and security headers.
"""

from __future__ import annotations

import re
from typing import Final
from uuid import uuid4

from litestar import Litestar
from litestar.enums import ScopeType
from litestar.types import Message, Receive, Scope, Send

from runfold.api.api import Api
from runfold.api.auth import ANYBODY, READER, Caller
from runfold.api.errors import JSON, ApiError, BadRequest, answer_of
from runfold.api.freshness import Header

SECURITY_HEADERS: Final[list[Header]] = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
]
_LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")
_GIVEN_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class Door:
    """The ASGI application. ``framework`` is what is behind the door."""

    def __init__(self, framework: Litestar, api: Api, *, beyond_loopback: bool) -> None:
        self.framework, self.api = framework, api
        named = [name.strip().lower() for name in api.settings.api.hosts.split(",") if name.strip()]
        self._any_host = "*" in named
        self._hosts = {*_LOOPBACK, api.settings.api.host.lower(), *named}
        self._without_keys = READER if beyond_loopback else ANYBODY

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self.framework(scope, receive, send)
            return
        told = {name: value for name, value in scope["headers"] if name in _WANTED}
        caller: Caller = READER
        given = told.get(b"x-request-id", b"")
        own: list[Header] = [(b"x-request-id", given if _GIVEN_ID.fullmatch(given) else uuid4().hex.encode())]
        own += SECURITY_HEADERS

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name for name, _ in message["headers"]}
                added = [header for header in own if header[0] not in present]
                message["headers"] = [*message["headers"], *added, *self.api.freshness.headers_for(caller)]
            await send(message)

        try:
            self._check_host(told.get(b"host", b""))
            caller = self._without_keys
            if self.api.freshness.stale():
                await self.api.freshness.renew()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told in our words
            await refuse(answer, answer_of(error))
            return
        scope.setdefault("state", {})["caller"] = caller
        await self.framework(scope, receive, answer)

    def _check_host(self, told: bytes) -> None:
        name = _PORT.sub("", told.decode("latin-1").lower())
        if not self._any_host and name not in self._hosts:
            raise BadRequest(
                "This server does not go by that name; whoever runs it can allow it with RUNFOLD_API_HOSTS.",
                code="unknown_host",
            )


async def refuse(send: Send, error: ApiError) -> None:
    """Send an error without the framework."""
    body = error.body()
    headers = [(b"content-type", JSON.encode()), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


_WANTED: Final = frozenset({b"host", b"authorization", b"x-request-id"})
_PORT: Final = re.compile(r":\d+$")
