"""Query parameters that nobody knows are told, not passed over: who asks to filter must not get everything."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import HTTPRouteHandler
from litestar.handlers.base import BaseRouteHandler
from litestar.params import QueryParameter

from runfold.api.errors import BadRequest


def check_parameters(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """The guard on every route. Raises BadRequest that names the parameter."""
    if connection.scope["query_string"] and isinstance(handler, HTTPRouteHandler):
        known = _known_to(handler)
        for name in connection.query_params:
            if name not in known:
                raise unknown_parameter(name)


def unknown_parameter(name: str) -> BadRequest:
    """A parameter that a route does not have."""
    return BadRequest(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")


@lru_cache(maxsize=1024)
def _known_to(handler: HTTPRouteHandler) -> frozenset[str]:
    """The names by which the query parameters of a handler, and of what it is given, are asked for."""
    taken = handler.parsed_fn_signature.parameters
    given = [each.parsed_fn_signature for name, each in handler.resolve_dependencies().items() if name in taken]
    fields = [*taken.values(), *(field for signature in given for field in signature.parameters.values())]
    asked = ((field.kwarg_definition, field.name) for field in fields)
    return frozenset(told.name or name for told, name in asked if isinstance(told, QueryParameter))
