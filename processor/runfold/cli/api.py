"""``runfold api``: answers over HTTP, reads only."""

from __future__ import annotations

import asyncio
from typing import Annotated

from cyclopts import Parameter, validators

from runfold.cli.exits import DONE
from runfold.cli.options import HERE, Places
from runfold.cli.printing import tell
from runfold.config import ConfigError, Settings


def api(
    *,
    host: Annotated[str | None, Parameter(help="Where to listen (RUNFOLD_API_HOST).")] = None,
    port: Annotated[
        int | None, Parameter(validator=validators.Number(gte=0, lte=65_535), help="At which port (RUNFOLD_API_PORT).")
    ] = None,
    workers: Annotated[
        int | None, Parameter(validator=validators.Number(gte=1), help="Processes that answer (RUNFOLD_API_WORKERS).")
    ] = None,
    insecure: Annotated[
        bool, Parameter(help="Let anybody read from beyond this machine while there are no keys.")
    ] = False,
    places: Places = HERE,
) -> int:
    """Answer over HTTP from the store, until stopped. Beside `runfold serve`, or on machines of its own."""
    told = {"api.host": host, "api.port": port, "api.workers": workers}
    _answer(
        places.settings({name: None if value is None else str(value) for name, value in told.items()}),
        insecure=insecure,
    )
    return DONE


def _answer(settings: Settings, *, insecure: bool) -> None:
    try:
        from runfold.api import server  # noqa: PLC0415 - an extra, which nobody needs for anything else
    except ModuleNotFoundError as error:
        raise ConfigError(f"the API needs {error.name}: pip install 'runfold[api]'") from error
    asyncio.run(server.check_answerable(settings, insecure=insecure))
    with server.listen(settings) as listening:
        tell(f"listening on {server.url_of(listening)}")
        if settings.api.workers > 1:
            server.serve_workers(settings, listening)
        else:
            server.run(settings, listening)
