"""A network between a store and its PostgreSQL that breaks when a test says so.

It knows just enough of the protocol to tell one request of the client from the next: a request ends with a message after
which the client waits (a query, a sync, the end of a COPY). Requests are counted over all connections.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

_ENDS_REQUEST = {b"Q", b"S", b"c"}


class Proxy:
    """``async with Proxy(url)``: then ``proxy.url`` names the same database through it.

    ``cut_at`` is the number of the request that breaks the network, 0 for none; ``cut_in``, words of the request that does,
    which then is the one of ``cut_at``. ``afterwards`` lets that request reach the server, and its answer come as far as
    here, before everything is cut. ``refusing`` takes no new connections;
    ``swallowing`` lets nothing through, neither way, and tells nobody; ``deserting`` leaves the server waiting for a client
    that is gone.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._parts, self._server = parts, (parts.hostname, parts.port or 5432)
        self.requests = self.cut_at = self.attempts = self.cuts = 0
        self.cut_in = b""
        self.afterwards = self.refusing = self.swallowing = self.deserting = False
        self._serving: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._listener.sockets[0].getsockname()[1]
        user, at, _ = self._parts.netloc.rpartition("@")
        query = "&".join(filter(None, (self._parts.query, "sslmode=disable")))
        self.url = self._parts._replace(netloc=f"{user}{at}127.0.0.1:{port}", query=query).geturl()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        self._listener.close()
        await self._listener.wait_closed()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def cut(self) -> None:
        """Cut all connections, to the client and to the server."""
        self.cuts += 1
        for writer in self._writers:
            writer.transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.attempts += 1
        if self.refusing:
            writer.transport.abort()
            return
        from_server, to_server = await asyncio.open_connection(*self._server)
        ends = {writer, to_server}
        self._writers |= ends
        answered = asyncio.Event()
        answers = asyncio.create_task(self._answer(from_server, writer, answered))
        with suppress(OSError, asyncio.IncompleteReadError):
            await self._forward(reader, to_server, answered)
        answers.cancel()
        await asyncio.gather(answers, return_exceptions=True)
        if self.deserting:
            return
        self._writers -= ends
        for end in ends:
            end.close()
            with suppress(OSError):
                await end.wait_closed()

    async def _forward(
        self, reader: asyncio.StreamReader, to_server: asyncio.StreamWriter, answered: asyncio.Event
    ) -> None:
        length = await reader.readexactly(4)  # the first message has no type
        to_server.write(length + await reader.readexactly(int.from_bytes(length, "big") - 4))
        while True:
            head = await reader.readexactly(5)
            body = await reader.readexactly(int.from_bytes(head[1:], "big") - 4)
            last = head[:1] in _ENDS_REQUEST
            self.requests += last
            if last and self.cut_in and self.cut_in in body:
                self.cut_at, self.cut_in = self.requests, b""
            cut = last and self.requests == self.cut_at
            if cut and not self.afterwards:
                self.cut()
                return
            if self.swallowing:
                continue
            answered.clear()
            to_server.write(head + body)
            await to_server.drain()
            if cut:
                await answered.wait()
                self.cut()
                return

    async def _answer(
        self, from_server: asyncio.StreamReader, writer: asyncio.StreamWriter, answered: asyncio.Event
    ) -> None:
        while data := await from_server.read(1 << 16):
            if not self.swallowing and not (self.cut_at and self.requests >= self.cut_at):
                writer.write(data)
                await writer.drain()
            answered.set()
        writer.close()
