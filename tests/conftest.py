"""What all tests share: Kafka, PostgreSQL, projections held to the contract, and a garbage collector nobody has tuned."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec import structs, to_builtins
from run_contract import SCHEMA, run_validator

from runfold.fold import projection
from runfold.fold.state import RunState
from runfold_schemas.run import Run

pytest_plugins = ["kafka_fixtures", "postgres_fixtures"]


@pytest.fixture(autouse=True, scope="session")
def projections_keep_the_contract() -> Iterator[None]:
    """Every projection that any test makes in this process validates against the user's contract, where it is at hand."""
    if not SCHEMA.is_file():
        yield
        return
    validator, run_of = run_validator(), projection.run_of

    def checked(state: RunState) -> Run:
        run = run_of(state)
        validator.validate(to_builtins(structs.asdict(run)))
        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projection, "run_of", checked)
        yield


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serving in the tests' own process leaves its garbage collector as it is."""
    monkeypatch.setattr("runfold.service.serve.quieten_collector", lambda: None)
