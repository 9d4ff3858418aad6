"""The events and the Run as one JSON Schema document, for teams that write events in other languages.

Generated from the structs and committed as ``json/runfold.schema.json``; a test compares the two, so a change of the
language shows in review as a change of the document. ``python -m runfold_schemas.json_schema`` writes it anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from runfold_schemas.events import EVENT_TYPES
from runfold_schemas.run import Run, RunStatus

PATH = Path(__file__).with_name("json") / "runfold.schema.json"


def document() -> dict[str, Any]:
    """The whole document: one definition per event and for the Run; its root is any event as it stands on the log."""
    events, definitions = msgspec.json.schema_components(EVENT_TYPES, ref_template="#/$defs/{name}")
    _, of_run = msgspec.json.schema_components([Run], ref_template="#/$defs/{name}")
    for event_type in EVENT_TYPES:
        _require_on_the_log(definitions[event_type.__name__])
    of_run["Run"]["required"] = list(of_run["Run"]["properties"])
    of_run["Run"]["properties"]["status"]["enum"] = [status.wire for status in RunStatus]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "runfold.schema.json",
        "title": "Events of Runs, as they stand on the log",
        "description": "One event per record, as a MessagePack map or a JSON object. The record's key is run_id.",
        "oneOf": list(events),
        "$defs": dict(sorted((definitions | of_run).items())),
    }


def render() -> str:
    """The document as it is committed: indented, in a fixed order, with a final newline."""
    return msgspec.json.format(msgspec.json.encode(document()), indent=2).decode() + "\n"


def _require_on_the_log(event: dict[str, Any]) -> None:
    """Publishers may leave out ``id`` and ``occurred_at``, which are then filled in; on the log both are required."""
    properties = event["properties"]
    for name in ("id", "occurred_at"):
        properties[name].pop("default")
    event["required"] = [name for name in properties if name in {*event["required"], "id", "occurred_at"}]


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(render(), encoding="utf-8")
