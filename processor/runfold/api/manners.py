"""What a request has to look like, whoever sends it: checked on loopback too, where a browser may ask for a page of others."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from litestar.types import HTTPScope

from runfold.api.errors import BadRequest, Forbidden, TooLarge, WrongMedia
from runfold.api_options import ApiOptions

MEDIA: Final = (
    "application/json",
    "application/jsonl",
    "application/x-ndjson",
    "application/msgpack",
    "application/x-msgpack",
    "application/vnd.msgpack",
)
"""What a body may be. None of it can be sent by a page of another origin without asking first."""

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_EVERYWHERE: Final = ("", "0.0.0.0", "::")  # noqa: S104 - told apart, not listened at
_GIVEN_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_PORT: Final = re.compile(r":[0-9]+$")
_READS: Final = ("GET", "HEAD", "OPTIONS")


class Told(NamedTuple):
    """What a request tells in front of its body. ``request_id`` is the one it asks to be known by, if it is fit."""

    method: str
    address: str
    host: bytes = b""
    authorization: bytes | None = None
    request_id: bytes | None = None
    origin: bytes = b""
    content_type: bytes = b""
    content_length: bytes = b""
    transfer_encoding: bytes = b""


def told_by(scope: HTTPScope) -> Told:
    """What an HTTP request tells."""
    client = scope.get("client")
    found = {field: value for name, value in scope["headers"] if (field := _FIELDS.get(name)) is not None}
    request_id = found.get("request_id")
    if request_id is not None and not _GIVEN_ID.fullmatch(request_id):
        del found["request_id"]
    return Told(str(scope["method"]), client[0] if client else "", **found)


_FIELDS: Final = {
    name.replace("_", "-").encode(): name for name in Told._fields if name not in ("method", "address", "request_id")
} | {b"x-request-id": "request_id"}


@lru_cache(maxsize=256)
def _name_in(host: bytes) -> str:
    """The name in a ``Host``, without its port."""
    return _PORT.sub("", host.decode("latin-1").lower())


class Manners:
    """The checks, by the settings."""

    def __init__(self, options: ApiOptions) -> None:
        named = {name.strip().lower() for name in options.hosts.split(",") if name.strip()}
        # Who listens everywhere without naming names is asked by any.
        self._any_host = "*" in named or (options.host in _EVERYWHERE and not named)
        self._hosts = {"localhost", "127.0.0.1", "[::1]", options.host.lower(), f"[{options.host.lower()}]", *named}
        self._origins = {origin.strip() for origin in options.origins.split(",") if origin.strip()}
        self._largest = options.largest_body

    def check(self, told: Told) -> None:
        """Raise what is wrong with a request."""
        if not self._any_host and _name_in(told.host) not in self._hosts:
            raise BadRequest(
                "This server does not go by that name; whoever runs it can allow it with RUNFOLD_API_HOSTS.",
                code="unknown_host",
            )
        if told.method not in _READS:
            self._check_origin(told)
        if told.content_length not in (b"", b"0") or told.transfer_encoding:
            self._check_body(told)

    def _check_origin(self, told: Told) -> None:
        """A page may change something here only if it is ours, or of an origin that is allowed."""
        origin = told.origin.decode("latin-1")
        if origin and origin not in self._origins and urlsplit(origin).netloc != told.host.decode("latin-1"):
            raise Forbidden("Pages of this origin may not ask for that.", code="origin_not_allowed")

    def _check_body(self, told: Told) -> None:
        media = told.content_type.decode("latin-1").partition(";")[0].strip().lower()
        if media not in MEDIA:
            raise WrongMedia(
                f"A body of one of these types is wanted: {', '.join(MEDIA)}.", code="unsupported_media_type"
            )
        if told.content_length.isdigit() and int(told.content_length) > self._largest:
            raise TooLarge(f"A request may have {self._largest:,} bytes at most.", code="request_too_large")
