"""What a route can answer, for the OpenAPI document: every answer is held to it by tests."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition

from runfold.api.errors import ErrorBody

_ERRORS: Final = {
    400: "A parameter or the body cannot be used; `param` names it",
    401: "A key is needed, or this one is not known",
    403: "This key may not do that",
    404: "It is not there, or not for this key",
    409: "It cannot be done as things stand",
    410: "The log no longer has it",
    413: "The request has too many bytes",
    415: "The body is of a type that is not taken",
    429: "Too many requests; `Retry-After` says when to come back",
    500: "A fault of the server's",
    501: "It needs an extra that is not installed here; the message names it",
    503: "Log or store cannot be reached now",
    504: "It took longer than it may",
}
_ALWAYS: Final = (400, 401, 403, 404, 413, 415, 429, 500, 503, 504)


def answers(body: Any, told: str, *more: int, status: int = 200) -> Mapping[int, ResponseSpec]:
    """The responses of a route: its success with ``body``, the errors that every route has, and ``more``."""
    errors = {
        code: ResponseSpec(ErrorBody, description=_ERRORS[code], generate_examples=False)
        for code in sorted({*_ALWAYS, *more})
    }
    return {status: ResponseSpec(body, description=told, generate_examples=False), **errors}


class MoneyAsNumber(OpenAPISchemaPlugin):
    """Decimals are numbers in answers, with all their digits; the framework takes them for text."""

    @staticmethod
    def is_plugin_supported_type(value: Any) -> bool:
        return value is Decimal

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:  # noqa: ARG002
        return Schema(type=OpenAPIType.NUMBER)
