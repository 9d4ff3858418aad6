"""``runfold config``: what is set, and by whom."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Group, Parameter, validators

from runfold.cli.env_file import env_file as text_of_env_file
from runfold.cli.options import HERE, Places
from runfold.cli.printing import print_json, print_table
from runfold.config import effective

_INSTEAD = Group("Instead of a table", validator=validators.mutually_exclusive)

AsJson = Annotated[bool, Parameter(name="--json", group=_INSTEAD, help="JSON Lines on stdout.")]
AsEnvFile = Annotated[
    bool, Parameter(group=_INSTEAD, help="An environment file with every setting explained, at its default.")
]


def config(*, json: AsJson = False, env_file: AsEnvFile = False, places: Places = HERE) -> int:
    """The effective settings, where each came from, and what it is for. Secrets are masked."""
    if env_file:
        sys.stdout.write(text_of_env_file())
        return 0
    rows = effective(places.settings())
    if json:
        print_json(
            *(
                {"name": setting.name, "variable": setting.variable, "value": value, "origin": origin}
                for setting, value, origin in rows
            )
        )
    else:
        print_table(
            ("variable", "value", "from", "what it is"),
            [(setting.variable, value, origin, setting.help) for setting, value, origin in rows],
        )
    return 0
