"""The committed JSON Schema, and what the Run promises against the contract."""

from __future__ import annotations

import json
import os
from pathlib import Path
from random import Random

import jsonschema
import pytest

from runfold_schemas import EVENT_TYPES, encode_json
from runfold_schemas.json_schema import PATH, document, render
from runfold_schemas.testing import random_event

SHARED = Path(os.environ.get("RUNFOLD_SHARED", Path(__file__).parents[3] / "shared"))


def test_committed_document_is_current() -> None:
    """The committed document is what the structs give; `python -m runfold_schemas.json_schema` writes it anew."""
    assert PATH.read_text(encoding="utf-8") == render()


def test_document_is_a_schema() -> None:
    """The document itself is valid JSON Schema 2020-12."""
    jsonschema.Draft202012Validator.check_schema(document())


@pytest.mark.parametrize("struct", EVENT_TYPES)
def test_log_requires_id_and_time(struct: type) -> None:
    """Every event on the log names its type, run, thread, id and time."""
    assert {"type", "run_id", "thread_id", "id", "occurred_at"} <= set(document()["$defs"][struct.__name__]["required"])


def test_events_validate() -> None:
    """Events as they are written validate against the document."""
    validator = jsonschema.Draft202012Validator(document())
    rng = Random(3)
    for _ in range(200):
        validator.validate(json.loads(encode_json(random_event(rng))))


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no contract at {SHARED}: set RUNFOLD_SHARED")
def test_run_has_every_property_of_the_contract() -> None:
    """The Run has every property of the contract, with the same type, the same values, and null where that is allowed."""
    contract = json.loads((SHARED / "seed" / "run.schema.json").read_text(encoding="utf-8"))["properties"]
    definitions = document()["$defs"]
    for name, promised in contract.items():
        ours = definitions["Run"]["properties"][name]
        options = [
            definitions[each["$ref"].rpartition("/")[2]] if "$ref" in each else each
            for each in ours.get("anyOf", [ours])
        ]
        types = {each.get("type", "string") for each in options}
        assert types - {"null"} == {promised["type"]}, name
        assert "null" not in types or promised.get("nullable"), name
        assert ours.get("enum") == promised.get("enum"), name
