"""``runfold api``: answers over HTTP, reads only."""

from __future__ import annotations

import asyncio
from typing import Annotated

from cyclopts import Parameter

from runfold.api.server import listen, serve_api
from runfold.cli.exits import DONE
from runfold.cli.options import HERE, Places
from runfold.cli.printing import tell


def api(
    *,
    host: Annotated[str | None, Parameter(help="Where to listen (RUNFOLD_API_HOST).")] = None,
    port: Annotated[int | None, Parameter(help="At which port (RUNFOLD_API_PORT).")] = None,
    places: Places = HERE,
) -> int:
    """Answer over HTTP from the store, until stopped."""
    settings = places.settings({"api.host": host, "api.port": None if port is None else str(port)})
    with listen(settings) as listening:
        name, at = listening.getsockname()[:2]
        tell(f"listening on http://{name}:{at}")
        asyncio.run(serve_api(settings, listening=listening))
    return DONE
