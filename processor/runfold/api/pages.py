"""Lists of our own: a page with an opaque cursor to the next one. The cursor is a place, and grants nothing."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from litestar.params import QueryParameter
from msgspec import msgpack

from runfold.api.errors import BadRequest

T = TypeVar("T")

MOST: Final = 100
_WHOLE: Final = Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]
_PLACES: Final[dict[str, Any]] = {
    "runs": msgpack.Decoder(tuple[_WHOLE, str]),  # type: ignore[valid-type]
    "letters": msgpack.Decoder(tuple[Annotated[int, msgspec.Meta(ge=0, lt=2**31)], _WHOLE]),  # type: ignore[valid-type]
}
_encode = msgpack.Encoder().encode

Limit = Annotated[int, QueryParameter(ge=1, le=MOST, description="How many")]
Cursor = Annotated[str | None, QueryParameter(description="Go on where another page ended: its next_cursor")]
Order = Literal["asc", "desc"]


def cursor_of(place: tuple[Any, ...] | None) -> str | None:
    """A place as a cursor."""
    return None if place is None else urlsafe_b64encode(_encode(place)).decode().rstrip("=")


def run_place(cursor: str | None) -> tuple[int, str] | None:
    """The place among runs that a cursor names. Raises BadRequest."""
    place: tuple[int, str] | None = _place(cursor, "runs")
    return place


def letter_place(cursor: str | None) -> tuple[int, int] | None:
    """The place in the log that a cursor names. Raises BadRequest."""
    place: tuple[int, int] | None = _place(cursor, "letters")
    return place


def _place(cursor: str | None, kind: str) -> Any:
    if cursor is None:
        return None
    try:
        return _PLACES[kind].decode(urlsafe_b64decode(cursor.encode("ascii") + b"=="))
    except (ValueError, msgspec.MsgspecError) as error:
        raise BadRequest(
            "Invalid value for 'cursor': it is no next_cursor.", param="cursor", code="invalid_value"
        ) from error
