"""The files of `deploy`, taken apart as the tests ask them: Compose's with its variables filled in, the image's by stages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from runfold.config import SETTINGS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE, COMPOSE = DEPLOY / "Dockerfile", DEPLOY / "compose.yaml"


class Instruction(NamedTuple):
    """One instruction of an image file: its name and what follows, in one line."""

    name: str
    rest: str


def stages() -> list[list[Instruction]]:
    """The stages of the image file; each begins with its FROM."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found: list[list[Instruction]] = []
    for line in filter(str.strip, text.replace("\\\n", " ").splitlines()):
        name, _, rest = line.partition(" ")
        if name == "FROM":
            found.append([])
        found[-1].append(Instruction(name, " ".join(rest.split())))
    return found


def compose() -> dict[str, Any]:
    """The Compose file, its anchors merged and each ``${NAME:-default}`` replaced by its default."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", COMPOSE.read_text(encoding="utf-8"))
    loaded: dict[str, Any] = YAML(typ="safe").load(text)
    return loaded


SERVICES: dict[str, dict[str, Any]] = compose()["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("runfold:")}
"""The services that run the command."""


def worker_environment() -> dict[str, str]:
    """What a worker is given; without its place to ask for health where this version has no such setting."""
    unknown = {"RUNFOLD_HEALTH"} - {setting.variable for setting in SETTINGS}
    return {name: text for name, text in SERVICES["worker"]["environment"].items() if name not in unknown}
