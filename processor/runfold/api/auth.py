"""Who is asking, and what they may do. Three scopes: *read*, *publish* and *admin*, which includes both.

A key may be confined to one project: whatever it asks is asked of the store with that project in the query. A route says in
its ``opt`` which scope it wants (``scope``, by default *read*; None where anybody may ask) and whether it knows confined keys
(``confined=True``); one that does not say so is closed to them.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler
from msgspec import Struct

from runfold.api.errors import Forbidden, Unauthorized

Scope = Literal["read", "publish", "admin"]
SCOPES: Final[tuple[Scope, ...]] = ("read", "publish", "admin")


class Caller(Struct, frozen=True, kw_only=True):
    """Whoever asks: by which key (None: none was needed), with which scopes, confined to which project."""

    key_id: str | None = None
    scopes: frozenset[str] = frozenset()
    project_id: str | None = None

    def may(self, scope: str) -> bool:
        return scope in self.scopes or "admin" in self.scopes


NOBODY: Final = Caller()
"""Who has not told yet who it is."""

ANYBODY: Final = Caller(scopes=frozenset({"read", "publish"}))
"""Whoever asks over loopback while there are no keys: anything but what needs an admin."""

READER: Final = Caller(scopes=frozenset({"read"}))
"""Whoever asks from elsewhere while there are no keys (``--insecure``)."""


def check_scope(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """The guard on every route. Raises Forbidden, or Unauthorized where a key would help."""
    opt, caller = handler.opt, caller_of(connection)
    scope = opt.get("scope", "read")
    if scope is None or connection.scope.get("method") == "OPTIONS":  # which tells methods alone
        return
    require(caller, scope)
    if caller.project_id is not None and not opt.get("confined", False):
        raise Forbidden("This is not open to a key that is confined to a project.", code="insufficient_permissions")


def require(caller: Caller, scope: str) -> None:
    """Raise Forbidden where the caller lacks the scope, or Unauthorized where a key would help."""
    if caller.may(scope):
        return
    if caller.key_id is None:
        raise Unauthorized(
            f"This needs a key with the scope {scope}: `runfold keys create --scope {scope}` makes one.",
            headers={"www-authenticate": "Bearer"},
        )
    raise Forbidden(f"This key lacks the scope {scope}.", code="insufficient_permissions")


def caller_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Caller:
    """Who asks, as the door found out."""
    caller = connection.scope["state"]["caller"]
    assert isinstance(caller, Caller)
    return caller
