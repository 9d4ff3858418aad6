"""The user's contract for a Run, ``../shared/seed/run.schema.json``, as tests hold projections against it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jsonschema

SHARED = Path(os.environ.get("RUNFOLD_SHARED", Path(__file__).parents[3] / "shared"))
SCHEMA = SHARED / "seed" / "run.schema.json"


def nullable_as_type_or_null(schema: Any) -> Any:
    """The contract with its OpenAPI ``nullable`` read as it is meant: JSON Schema ignores the word."""
    if isinstance(schema, list):
        return [nullable_as_type_or_null(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    read = {name: nullable_as_type_or_null(item) for name, item in schema.items()}
    return read | {"type": [read["type"], "null"]} if read.pop("nullable", False) is True else read


def run_validator() -> jsonschema.Draft202012Validator:
    """Validates Runs. Raises FileNotFoundError where the contract is not at hand."""
    contract = nullable_as_type_or_null(json.loads(SCHEMA.read_text()))
    return jsonschema.Draft202012Validator(contract | {"$id": "urn:run"})
