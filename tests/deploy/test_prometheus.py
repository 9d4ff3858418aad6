"""What Prometheus is told to look at: rules that parse, of metrics and labels that there are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from prometheus_client.metrics_core import Metric
from ruamel.yaml import YAML

from runfold.config import SETTINGS
from runfold.health.metrics import Metrics

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
PER_SERIES = {"instance", "job", "le"}
"""Labels that Prometheus, or the kind of a metric, brings along."""


def read(name: str) -> Any:
    return YAML(typ="safe", pure=True).load(FOLDER / name)


RULES = [rule for group in read("alerts.yml")["groups"] for rule in group["rules"]]


@pytest.fixture
def served() -> dict[str, Metric]:
    """Every metric that /metrics can have, by the name of its samples."""
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}
    return {metric.name + suffix: metric for metric in Metrics().registry.collect() for suffix in suffixes[metric.type]}


def selectors(expression: str) -> Iterator[Any]:
    """The parts of an expression that name a metric."""
    found: list[Any] = []
    promql_parser.walk(promql_parser.parse(expression), found.append)
    for each in found:
        if isinstance(each, promql_parser.VectorSelector):
            yield each


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_a_rule_is_of_metrics_that_there_are(rule: dict[str, Any], served: dict[str, Metric]) -> None:
    """Every expression is PromQL, and each metric in it is one that runfold serves (or Prometheus' own `up`)."""
    named = [selector.name for selector in selectors(rule["expr"])]
    assert named
    assert set(named) <= served.keys() | {"up"}


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_a_rule_says_what_to_do(rule: dict[str, Any]) -> None:
    """Every rule has a severity, a summary and a remedy."""
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert {"summary", "remedy"} == rule["annotations"].keys()


def test_what_has_to_be_watched_is_watched() -> None:
    """There are rules for what stands still, is behind, rejected, blocked, taken over, stuck, and what cannot be written."""
    watched = {selector.name for rule in RULES for selector in selectors(rule["expr"])}
    assert watched >= {
        "runfold_stuck",
        "runfold_lag_seconds",
        "runfold_dead_letters_total",
        "runfold_held_back_seconds",
        "runfold_partitions_taken_total",
        "runfold_runs_stuck",
        "runfold_store_written_timestamp_seconds",
    }


def test_prometheus_asks_where_runfold_answers() -> None:
    """Prometheus loads these rules, and asks the port that is the default of RUNFOLD_HEALTH."""
    told = read("prometheus.yml")
    (health,) = [setting for setting in SETTINGS if setting.name == "health"]
    (job,) = told["scrape_configs"]
    assert told["rule_files"] == ["alerts.yml"]
    assert [f":{found['port']}" for found in job["dns_sd_configs"]] == [health.default[health.default.index(":") :]]
