"""Reading the fields of a Run body as servers really send them, and saying what of it cannot be understood.

Times come in seconds or milliseconds, as integers or floats; fields are missing, null or of another type; usage has two
spellings. What cannot be read is left out and complained about, never guessed. A new spelling of a server is added here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_type_hints

import msgspec

from runfold_schemas import Event, JsonObject, RunCreated, TokenDetails, Usage
from runfold_schemas.json_value import are_json

EARLIEST_SECONDS = 978_307_200
"""2001-01-01: the log takes no earlier event. Servers that write 0 for "not yet" are read as having written null."""

_MILLISECONDS_FROM = 10**11
_MICROSECONDS_FROM = 10**14
_NOT_SETTINGS = {"metadata", "expires_at", "extra", *Event.__struct_fields__}
SETTINGS = tuple(name for name in RunCreated.__struct_fields__ if name not in _NOT_SETTINGS)
"""What only ``created`` tells, by the names that bodies and events share."""

_HINTS = get_type_hints(RunCreated, include_extras=True)
_encode = msgspec.msgpack.Encoder().encode


class Body:
    """One Run body. Everything that is read may add to ``complaints``, in words that name the field."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = fields
        self.complaints: list[str] = []

    def name(self, field: str) -> str | None:
        """An id: a text of 1 to 256 characters."""
        value = self.fields.get(field)
        if isinstance(value, str) and 1 <= len(value) <= 256:
            return value
        self._complain(field, "is missing" if value is None else "is no text of 1 to 256 characters")
        return None

    def time(self, field: str) -> int | None:
        """A time in Unix milliseconds, or None where the body has none."""
        value = self.fields.get(field)
        if value is None or value == 0:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._complain(field, f"is no time: {value!r:.60}")
            return None
        milliseconds = value if value > _MILLISECONDS_FROM else value * 1000
        if not EARLIEST_SECONDS * 1000 <= milliseconds < _MICROSECONDS_FROM:
            self._complain(field, f"is no time since 2001 in seconds or milliseconds: {value!r:.60}")
            return None
        return round(milliseconds)

    def object(self, field: str) -> JsonObject | None:
        """An object, or None where the body has none."""
        told: JsonObject | None = self._typed(field, JsonObject | None)
        return told

    def settings(self) -> dict[str, Any]:
        """The settings that the body has, by name."""
        told = {name: self._typed(name, _HINTS[name]) for name in SETTINGS if self.fields.get(name) is not None}
        return {name: value for name, value in told.items() if value is not None}

    def beyond(self, known: frozenset[str]) -> JsonObject:
        """The fields that are not among ``known``, as they came."""
        told = {
            name: self._typed(name, Any)
            for name, value in self.fields.items()
            if name not in known and value is not None
        }
        return {name: value for name, value in told.items() if value is not None}

    def usage(self) -> Usage | None:
        """What the run used; None where the body does not say, or says what cannot be understood."""
        told = self.object("usage")
        if told is None:
            return None
        prompt, completion = told.get("prompt_tokens"), told.get("completion_tokens")
        total = told.get("total_tokens")
        if total is None and type(prompt) is int and type(completion) is int:
            total = prompt + completion
        counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
        try:
            usage = msgspec.convert(counts, Usage)
        except msgspec.ValidationError as error:
            self._complain("usage", f"is taken as unknown: {error}")
            return None
        return msgspec.structs.replace(
            usage,
            prompt_token_details=self._details(told, "prompt_token_details", "prompt_tokens_details"),
            completion_tokens_details=self._details(told, "completion_tokens_details", "completion_token_details"),
        )

    def _details(self, usage: JsonObject, *spellings: str) -> TokenDetails | None:
        spelling = next((each for each in spellings if usage.get(each) is not None), None)
        if spelling is None:
            return None
        try:
            return msgspec.convert(usage[spelling], TokenDetails)
        except msgspec.ValidationError as error:
            self._complain(f"usage.{spelling}", f"is left out: {error}")
            return None

    def _typed(self, field: str, kind: Any) -> Any:
        """The field as ``kind``, or None where an event could not carry it: integers beyond 64 bits, bottomless values."""
        value = self.fields.get(field)
        try:
            _encode(value)
            told = msgspec.convert(value, kind)
        except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
            self._complain(field, f"is left out: {error}")
            return None
        if not are_json((told,)):
            self._complain(field, "is left out: nested too deeply")
            return None
        return told

    def _complain(self, field: str, complaint: str) -> None:
        self.complaints.append(f"{field} {complaint}")
