"""Errors as OpenAI's clients expect them, whatever went wrong: ``{"error": {message, type, param, code}}``.

Every answer that is no success is made here. What happened inside stays inside: a fault of ours is told by its request id.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from litestar import Request, Response
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)
from litestar.status_codes import (
    HTTP_400_BAD_REQUEST,
    HTTP_413_REQUEST_ENTITY_TOO_LARGE,
    HTTP_500_INTERNAL_SERVER_ERROR,
)
from litestar.types import ExceptionHandlersMap
from msgspec import Struct

from runfold.log.port import LogError, RangeLost
from runfold.replay.run_range import RefoldRefused
from runfold.store.port import StalePosition, StoreError
from runfold.telemetry import get_logger

INVALID: Final = "invalid_request_error"
SERVER: Final = "server_error"
JSON: Final = "application/json"
_LEFT_OUT: Final = re.compile(r"^Missing required \w+ parameter '([^']*)'")


class ErrorDetail(Struct, frozen=True, kw_only=True):
    """What went wrong: ``message`` for people, ``param`` the parameter at fault, ``code`` for programs."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(Struct, frozen=True, kw_only=True):
    """The body of every answer that is no success."""

    error: ErrorDetail


class ApiError(Exception):
    """An answer that is no success; raise one of its kinds below."""

    status = HTTP_500_INTERNAL_SERVER_ERROR
    type = SERVER

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.param, self.code, self.headers = message, param, code, headers or {}

    def body(self) -> bytes:
        detail = ErrorDetail(message=self.message, type=self.type, param=self.param, code=self.code)
        return msgspec.json.encode(ErrorBody(error=detail))


class BadRequest(ApiError):
    """400: a parameter or body that cannot be used; ``param`` names it."""

    status, type = HTTP_400_BAD_REQUEST, INVALID


class Unauthorized(ApiError):
    """401: no key, or none that is known."""

    status, type = 401, INVALID


class Forbidden(ApiError):
    """403: a key that may not do this."""

    status, type = 403, INVALID


class NotFound(ApiError):
    """404: it is not there, or not for this key: the two are told alike."""

    status, type = 404, INVALID


class Conflict(ApiError):
    """409: it cannot be done as things stand."""

    status, type = 409, INVALID


class TooLarge(ApiError):
    """413: more bytes than are taken."""

    status, type = HTTP_413_REQUEST_ENTITY_TOO_LARGE, INVALID


class WrongMedia(ApiError):
    """415: a body of another content type."""

    status, type = 415, INVALID


class TooManyRequests(ApiError):
    """429: come back after ``Retry-After`` seconds."""

    status, type = 429, "rate_limit_error"


class NotInstalled(ApiError):
    """501: it needs an extra that is not installed; the message names it."""

    status, type = 501, INVALID


class Unavailable(ApiError):
    """503: log or store do not answer; trying again may help."""

    status, type = 503, SERVER


class TimedOut(ApiError):
    """504: it took longer than it may."""

    status, type = 504, SERVER


def no_run(run_id: str) -> NotFound:
    """There is no such run, in OpenAI's words."""
    return NotFound(f"No run found with id '{run_id}'.")


def answer_of(error: Exception, *, method: str = "", path: str = "") -> ApiError:
    """What an exception is to the one who asked. What nobody outside can act on is told as a fault, and no more."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, RefoldRefused | RangeLost | StalePosition):
        return Conflict(str(error), code="not_as_things_stand")
    if isinstance(error, StoreError | LogError):
        # The message names hosts, files and settings: it is for whoever runs the server.
        get_logger().warning("request_failed", reason=str(error))
        return Unavailable("The log or the store cannot be reached now.", code="unavailable")
    if isinstance(error, HTTPException):
        return _of_framework(error, method=method, path=path)
    get_logger().error("request_failed", exc_info=error)
    return ApiError("The server had an error while processing your request.")


def _of_framework(error: HTTPException, *, method: str, path: str) -> ApiError:
    if isinstance(error, NotFoundException):
        return NotFound(f"Invalid URL ({method} {path})", code="unknown_url")
    if isinstance(error, MethodNotAllowedException):
        refused = BadRequest(
            f"Not allowed to {method} on {path}.", code="method_not_supported", headers=_headers(error)
        )
        refused.status = error.status_code
        return refused
    if isinstance(error, ValidationException):
        name, message = _first_problem(error)
        return BadRequest(message, param=name, code="invalid_value")
    kind: type[ApiError] = BadRequest if error.status_code < HTTP_500_INTERNAL_SERVER_ERROR else ApiError
    told = kind(error.detail if kind is BadRequest else "The server had an error.", headers=_headers(error))
    told.status = error.status_code
    return told


def _headers(error: HTTPException) -> dict[str, str]:
    return dict(error.headers or {})


def _first_problem(error: ValidationException) -> tuple[str | None, str]:
    """The parameter that is at fault, and what is wrong with it."""
    extra: Any = error.extra
    if isinstance(extra, list) and extra and isinstance(extra[0], dict):
        name = extra[0].get("key") or None
        message = str(extra[0].get("message", "it cannot be used"))
        return name, f"Invalid value for '{name}': {message}." if name else message
    left_out = _LEFT_OUT.search(error.detail)
    return left_out[1] if left_out else None, error.detail


def respond(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The framework's handler of every exception."""
    told = answer_of(error, method=request.method, path=request.url.path)
    return Response(told.body(), status_code=told.status, media_type=JSON, headers=told.headers)


HANDLERS: Final[ExceptionHandlersMap] = {HTTPException: respond, Exception: respond}
