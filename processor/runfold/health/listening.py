"""Answers /healthz, /readyz and /metrics over HTTP, from threads of its own: also while the fold's event loop is blocked.

Made for probes and scrapers on a trusted network: plain HTTP, GET and HEAD only, one request a connection. A few requests
are answered at once; where more come, the oldest connection gives way, so that idle ones cannot shut out a probe.
"""

from __future__ import annotations

import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from threading import Lock, Thread
from typing import Any, NamedTuple, cast

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from runfold.config import ConfigError, Settings
from runfold.health.metrics import Families, Known
from runfold.health.verdict import Limits, Verdict, health, readiness
from runfold.telemetry import Logger

_REQUESTS_AT_ONCE = 16
_REQUEST_SECONDS = 5.0


class Answer(NamedTuple):
    """What is sent for a path."""

    status: HTTPStatus
    kind: str
    body: bytes


class Pages:
    """What each path answers, out of the metrics in ``families``."""

    def __init__(self, families: Families, limits: Limits) -> None:
        self._families, self._limits = families, limits
        self._paths: dict[str, Callable[[], Answer]] = {
            "/healthz": lambda: _judged(health(self._families, now=time.time())),
            "/readyz": lambda: _judged(readiness(self._families, limits=self._limits, now=time.time())),
            "/metrics": self._metrics,
        }

    def answer(self, path: str) -> Answer:
        """The answer to a path, whatever is asked behind it; 404 names the paths that there are."""
        page = self._paths.get(path.partition("?")[0])
        return page() if page else _json(HTTPStatus.NOT_FOUND, {"paths": list(self._paths)})

    def _metrics(self) -> Answer:
        written = generate_latest(cast("CollectorRegistry", Known(self._families)))
        return Answer(HTTPStatus.OK, CONTENT_TYPE_PLAIN_0_0_4, written)


def _judged(verdict: Verdict) -> Answer:
    return _json(HTTPStatus.OK if verdict.ok else HTTPStatus.SERVICE_UNAVAILABLE, verdict)


def _json(status: HTTPStatus, body: Any) -> Answer:
    return Answer(status, "application/json", msgspec.json.encode(body) + b"\n")


class HealthServer:
    """Listens at the address of RUNFOLD_HEALTH from the time it is made. Raises ConfigError where it cannot."""

    def __init__(self, settings: Settings, families: Families, logger: Logger) -> None:
        limits = Limits(lag=settings.ready_lag, store_silence=settings.lease)
        host, _, port = settings.health.rpartition(":")
        try:
            self._server = _Server((host.strip("[]"), int(port)), Pages(families, limits), logger)
        except OSError as error:
            raise ConfigError(
                f"RUNFOLD_HEALTH ({settings.origins['health']}): {settings.health} cannot be listened at: "
                f"{error.strerror or error}; name another HOST:PORT, or off"
            ) from error
        self._thread = Thread(target=self._server.serve_forever, args=(0.1,), name="runfold-health", daemon=True)
        self._thread.start()
        logger.info("health_listening", address="{}:{}".format(*self._server.server_address[:2]))

    @property
    def port(self) -> int:
        """The port that is listened at."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Answer what has come, for a moment, and listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(1.0)


class _Server(ThreadingMixIn, HTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], pages: Pages, logger: Logger) -> None:
        self.pages, self.logger = pages, logger
        self._open: deque[socket.socket] = deque()
        self._lock = Lock()
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Without asking the name service what our name is, as HTTPServer does: that may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        """On a thread of its own; where too many are open, the oldest is ended."""
        with self._lock:
            self._open.append(request)
            oldest = self._open.popleft() if len(self._open) > _REQUESTS_AT_ONCE else None
        if oldest is not None:
            with suppress(OSError):
                oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """As socketserver says."""
        with self._lock, suppress(ValueError):
            self._open.remove(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - socketserver's
        """A client that went away is no matter, and nothing else can happen: see ``_Handler._answer``."""
        self.logger.debug("health_request_failed", cause=type(sys.exception()).__name__)


class _Handler(BaseHTTPRequestHandler):
    timeout = _REQUEST_SECONDS
    error_message_format, error_content_type = "%(code)d %(message)s\n", "text/plain"

    def do_GET(self) -> None:
        """Answer with a body."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answer without one."""
        self._answer(with_body=False)

    def _refuse(self) -> None:
        self.send_response(HTTPStatus.METHOD_NOT_ALLOWED)
        self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse  # noqa: N815 - http.server's

    def _answer(self, *, with_body: bool) -> None:
        server = cast("_Server", self.server)
        try:
            status, kind, body = server.pages.answer(self.path)
        except Exception:
            server.logger.exception("health_page_failed", path=self.path)
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)
            return
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def version_string(self) -> str:
        """Which software answers, and no version of anything."""
        return "runfold"

    def log_message(self, *_: Any) -> None:
        """Probes come every few seconds: nobody wants to read of each."""
