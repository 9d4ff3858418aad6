"""A connection of the server: uvicorn's, with a bound on the size and the time of a request's head.

Nothing of ours sees a request before its head is whole, so that here alone one that never ends can be told to. What is no
HTTP at all is refused in OpenAI's shape too.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runfold.api.errors import INVALID, JSON, ApiError, BadRequest

LARGEST_HEAD: Final = 64 * 1024
"""Bytes of a request line and its headers; a little more is taken where they come at once."""

HEAD_SECONDS: Final = 10.0
"""So long a head may take, from the connection on or from its first byte."""


class HeadTooLarge(ApiError):
    """431: a longer address, or more headers, than are taken."""

    status, type = 431, INVALID


class Connection(HttpToolsProtocol):
    """A client's connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        self._in_head, self._came = True, 0
        self._late: asyncio.TimerHandle | None = None
        self._hurry()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._came += len(data)
            self._hurry()
            if self._came > LARGEST_HEAD:
                self._refuse(HeadTooLarge(f"A request's head may have {LARGEST_HEAD:,} bytes.", code="head_too_large"))

    def on_message_begin(self) -> None:
        self._in_head, self._came = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._wait()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        self._refuse(BadRequest(msg, code="invalid_request"))

    def _hurry(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _wait(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _refuse(self, error: ApiError) -> None:
        """An answer to what became no request; the connection ends with it."""
        body = error.body()
        head = f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\ncontent-type: {JSON}\r\n"
        self.transport.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
        self.transport.close()
