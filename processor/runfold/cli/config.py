"""``runfold config``: what is set, and by whom."""

from __future__ import annotations

from runfold.cli.options import HERE, AsJson, Places
from runfold.cli.printing import print_json, print_table
from runfold.config import effective


def config(*, json: AsJson = False, places: Places = HERE) -> int:
    """The effective settings, where each came from, and what it is for. Secrets are masked."""
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
